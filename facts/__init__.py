"""What is true on a node now: one module a concern. Each fact also works alone, for example
``pyinfra inventory.py fact chaos_engine.facts.kernel.KernelCmdline``."""
