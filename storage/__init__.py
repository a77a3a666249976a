"""Everything that lasts: object stores, keys, schemas, lake, ledger, alert book."""
