"""Read what is true on a node now: one module for each subject.

The folder `observe` is machinery: it reads many facts by one remote command. Facts import nothing
of this package but each other. Operations call them. Each fact also works alone, for example
``pyinfra inventory.py fact chaos_engine.facts.kernel.KernelCmdline``.
"""
