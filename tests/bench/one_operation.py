"""Run one command on each node: the least that a deploy of pyinfra can be."""

from pyinfra.operations import server

server.shell(name="Run a command", commands=["true"])
