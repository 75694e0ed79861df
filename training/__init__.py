"""How the built-in models are made and measured. Nothing of it is installed."""
