"""Read the present state of a node, with one module for each subject.

The folder `observe` reads many facts by one remote command. Facts import neither operations nor
deploys. Operations call the facts. Each fact also works alone, for example
``pyinfra inventory.py fact chaos_engine.facts.kernel.KernelCmdline``.
"""
