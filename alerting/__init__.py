"""Events become alerts, and alerts reach control rooms."""
