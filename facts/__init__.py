"""Read the present state of a node. Each module has the facts about one subject.

The folder `observe` reads many facts by one remote command. Operations use the facts. Facts import
neither operations nor deploys. Each fact also works alone, for example
``pyinfra inventory.py fact chaos_engine.facts.kernel.KernelCmdline``.
"""
