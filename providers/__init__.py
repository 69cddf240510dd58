"""Payment providers behind one contract (base.py): one module a provider, found through registry.py."""
