"""Read which programs have written most to disks and shares."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value

MOST = 10
"""How many programs `Writers` returns at most."""

# One perl process reads all files. It skips processes that end meanwhile. It escapes bytes of names
# that are not printable ASCII, as in a URL
COMMAND = rf"""LC_ALL=C perl -e '
local $/ = undef;
for $folder (glob "/proc/[0-9]*") {{
  open($file, "<", "$folder/io") && defined($io = <$file>) || next;
  open($file, "<", "$folder/comm") && defined($name = <$file>) || next;
  $name =~ s/\n\z//;
  ($bytes) = $io =~ /^write_bytes: (\d+)/m or next;
  ($cancelled) = $io =~ /^cancelled_write_bytes: (\d+)/m;
  $written{{$name}} += $bytes > $cancelled ? $bytes - $cancelled : 0;
  $processes{{$name}}++;
  $known = 1;
}}
for (sort {{ $written{{$b}} <=> $written{{$a}} || $a cmp $b }} keys %written) {{
  last if !$written{{$_}} || $lines++ >= {MOST};
  ($name = $_) =~ s/([^!-\$&-~])/sprintf "%%%02x", ord $1/ge;
  print "$written{{$_}} $processes{{$_}} $name\n";
}}
print "none\n" if $known && !$lines;
'"""
"""A shell command that prints a line ``BYTES PROCESSES NAME`` for each of the `MOST` programs that
have written most. It prints ``none`` if no program has written."""


@dataclass(frozen=True)
class Writer(Value):
    """A program and what its processes have written.

    + program: the program's name, as in ``/proc/PID/comm``
    + processes: how many processes of that name run
    + written: how many bytes these processes and their ended children have written to devices and
      shares. The docstring of `Writers` says how the kernel counts
    """

    program: str
    processes: int
    written: int


class Writers(NodeFact["tuple[Writer, ...] | None"]):
    """The programs that have written most, in descending order.

    The value is ``None`` if the kernel does not count written bytes.

    The kernel counts the bytes that a process has written (proc_pid_io(5)), even if these bytes
    have not reached the card. A page that changes several times before it is flushed counts once.
    The file system's journal does not count. Files on shares and on other disks do count. The bytes
    of an ended process count for the process that waited for its end (wait(2)), often systemd.

    **Example:** ``pyinfra inventory.py fact chaos_engine.facts.writers.Writers``
    """

    @override
    def command(self) -> str:
        return COMMAND

    @override
    def parse(self, lines: list[str]) -> tuple[Writer, ...] | None:
        """Parse the lines ``BYTES PROCESSES NAME``, or ``none`` if no program has written."""
        return parse_writers(lines) if lines else None


def parse_writers(lines: list[str]) -> tuple[Writer, ...]:
    """Return the programs in lines ``BYTES PROCESSES NAME``. Skip a line ``none``.

    This is a pure function.
    """
    rows = (line.split(" ", 2) for line in lines if line != "none")
    return tuple(
        Writer(unquote(name, errors="surrogateescape"), int(processes), int(written))
        for written, processes, name in rows
    )
