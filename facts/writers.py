"""Read which programs have written to devices."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from typing_extensions import override

from chaos_engine.facts.observe import NodeFact, Value

MOST = 10
"""How many programs `Writers` returns at most."""

# One process reads all files. A process that ends meanwhile is skipped. All bytes of a name but
# printable ASCII are escaped as in a URL
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
"""A shell command that prints ``BYTES PROCESSES NAME`` for each of the `MOST` programs."""


@dataclass(frozen=True)
class Writer(Value):
    """A program and what its processes have written.

    + program: the name of the processes, as in ``/proc/PID/comm``
    + processes: how many processes of that name run
    + written: the bytes that they, and the processes that they have started and that have ended,
      gave the kernel to write to devices and shares
    """

    program: str
    processes: int
    written: int


class Writers(NodeFact["tuple[Writer, ...] | None"]):
    """The programs that have written most, most first; ``None`` if the kernel does not count.

    The kernel counts what a process made to be written (proc_pid_io(5)), not what reached the card:
    pages that are written several times before they are flushed count once, the file system's
    journal does not count, and files on shares and other disks do. A process that has ended counts
    for the process that waited for it, which is often systemd.

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
    """Return the programs of the lines ``BYTES PROCESSES NAME``: a pure function."""
    rows = (line.split(" ", 2) for line in lines if line != "none")
    return tuple(
        Writer(unquote(name, errors="surrogateescape"), int(processes), int(written))
        for written, processes, name in rows
    )
