"""Preview the deploy without root or a virtual cluster, on pyinfra's @fake hosts.

They answer what a fresh node of the virtual cluster answered.
"""
