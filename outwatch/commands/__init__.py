"""Commands of ``outwatch`` by what they are about; ``outwatch/cli.py`` names them all."""
