"""A preview of the deploy without root or a virtual cluster: pyinfra's @fake hosts, answering with
what a fresh node of the virtual cluster said."""
