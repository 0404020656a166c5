"""The command line of the lab's stand-in for kubeadm.

It has `version`, `config validate`, `init` and its phase `upload-certs`, `join`, `reset`, `token`,
`upgrade` and `certs`, which check as strictly as the real one and write the files that it writes.
There are no pods: the lab's API server begins to answer when its manifest is there.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import NoReturn

from . import config, init, join, release, reset, tokens, upgrade
from .node import Fatal

_WITH_CONFIG = {"config", "ignore_preflight_errors", "upload_certs", "node_name", "verbosity",
                "yes", "force", "dry_run", "version"}  # fmt: skip
"""The flags that may stand beside --config (``isAllowedFlag`` in validation.go)."""


class _Parser(ArgumentParser):
    """Complains as cobra does."""

    def error(self, message: str) -> NoReturn:
        unknown = message.partition("unrecognized arguments: ")[2].split()
        raise Fatal(f"unknown flag: {unknown[0].partition('=')[0]}" if unknown else message)


def main() -> None:
    """Run one command and exit with its status."""
    try:
        _run(sys.argv[1:])
    except Fatal as error:
        print(f"{release.ERROR_PREFIX}{error}", file=sys.stderr)
        print("To see the stack trace of this error execute with --v=5 or higher", file=sys.stderr)
        sys.exit(error.status)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(words: list[str]) -> None:
    for command, action in (
        (("version",), _version),
        (("config", "validate"), _validate),
        (("init", "phase", "upload-certs"), _upload_certs),
        (("init",), _init),
        (("join",), _join),
        (("reset",), _reset),
        (("token", "create"), _create_token),
        (("token", "list"), _list_tokens),
        (("token", "delete"), _delete_tokens),
        (("upgrade", "plan"), _upgrade(upgrade.plan)),
        (("upgrade", "apply"), _upgrade(upgrade.apply)),
        (("upgrade", "node", "phase", "kubelet-config"), _kubelet_config),
        (("upgrade", "node"), _upgrade(upgrade.upgrade_node)),
        (("certs", "check-expiration"), _check_expiration),
        (("certs", "renew", "all"), _renew_all),
    ):
        if tuple(words[: len(command)]) == command:
            action(words[len(command) :])
            return
    raise Fatal(f'the lab\'s stand-in for kubeadm has no "{" ".join(words)}"')


def _parser(*flags: str, switches: tuple[str, ...] = ()) -> _Parser:
    """Return a parser of FLAGS, which have a value, and SWITCHES; all know -v."""
    parser = _Parser(add_help=False, allow_abbrev=False)
    for flag in flags:
        parser.add_argument(f"--{flag}")
    for switch in switches:
        parser.add_argument(f"--{switch}", action="store_true")
    parser.add_argument("--ignore-preflight-errors", action="append", default=[])
    parser.add_argument("-v", "--v", dest="verbosity")
    return parser


def _parse(parser: _Parser, words: list[str]) -> Namespace:
    options = parser.parse_args(words)
    lists = [text.split(",") for text in options.ignore_preflight_errors]
    options.ignore_preflight_errors = [name for names in lists for name in names if name]
    if getattr(options, "config", None):
        given = [
            name.replace("_", "-")
            for name, value in vars(options).items()
            if value and name not in _WITH_CONFIG
        ]
        if given:
            raise Fatal(f"can not mix '--config' with arguments [{','.join(sorted(given))}]")
    return options


def _version(words: list[str]) -> None:
    parser = _parser()
    parser.add_argument("-o", "--output")
    output = _parse(parser, words).output
    if output is None:
        print(
            f'kubeadm version: &version.Info{{Major:"{release.MAJOR}", Minor:"{release.MINOR}", '
            f'GitVersion:"v{release.VERSION}"}}'
        )
    elif output == "short":
        print(f"v{release.VERSION}")
    else:
        raise Fatal("the lab's stand-in for kubeadm prints short versions only")


def _validate(words: list[str]) -> None:
    path = _parse(_parser("config"), words).config
    if not path:
        raise Fatal("the --config flag is mandatory")
    config.validate(path)
    print("ok")


def _init(words: list[str]) -> None:
    parser = _parser("config", "cri-socket", "certificate-key", switches=("upload-certs",))
    options = _parse(parser, words)
    init.run(
        options.config,
        options.cri_socket,
        options.certificate_key,
        options.ignore_preflight_errors,
        upload=options.upload_certs,
    )


def _upload_certs(words: list[str]) -> None:
    parser = _parser("config", "certificate-key", switches=("upload-certs",))
    options = _parse(parser, words)
    init.upload_certs(options.config, options.certificate_key, upload=options.upload_certs)


def _join(words: list[str]) -> None:
    flags = ("config", "token", "discovery-token", "cri-socket", "node-name", "certificate-key",
             "apiserver-advertise-address")  # fmt: skip
    switches = ("control-plane", "discovery-token-unsafe-skip-ca-verification")
    parser = _parser(*flags, switches=switches)
    parser.add_argument("--discovery-token-ca-cert-hash", action="append", default=[])
    parser.add_argument("endpoint", nargs="?")
    join.run(_parse(parser, words))


def _reset(words: list[str]) -> None:
    parser = _parser("cri-socket", switches=("dry-run", "cleanup-tmp-dir"))
    parser.add_argument("-f", "--force", action="store_true")
    options = _parse(parser, words)
    reset.run(
        options.cri_socket,
        options.ignore_preflight_errors,
        force=options.force,
        dry_run=options.dry_run,
        temporary=options.cleanup_tmp_dir,
    )


def _create_token(words: list[str]) -> None:
    parser = _parser(
        "ttl", "certificate-key", "description", "config", switches=("print-join-command",)
    )
    parser.add_argument("token", nargs="?")
    options = _parse(parser, words)
    tokens.create(
        options.token,
        options.ttl,
        options.certificate_key,
        options.description or "",
        join_command=options.print_join_command,
    )


def _list_tokens(words: list[str]) -> None:
    _parse(_parser(), words)
    tokens.show()


def _delete_tokens(words: list[str]) -> None:
    parser = _parser()
    parser.add_argument("tokens", nargs="*")
    tokens.delete(_parse(parser, words).tokens)


def _upgrade(action: Callable[[Namespace], None]) -> Callable[[list[str]], None]:
    """Return a command of ``upgrade`` that gives its options to ACTION."""

    def run(words: list[str]) -> None:
        parser = _parser("config", switches=("dry-run",))
        parser.add_argument("--certificate-renewal", nargs="?", const="true")
        if action is not upgrade.upgrade_node:
            parser.add_argument("version", nargs="?")
        if action is upgrade.apply:
            parser.add_argument("-y", "--yes", action="store_true")
            parser.add_argument("-f", "--force", action="store_true")
        parser.set_defaults(version=None, yes=False, force=False)
        action(_parse(parser, words))

    return run


def _kubelet_config(words: list[str]) -> None:
    _parse(_parser(), words)
    upgrade.kubelet_config()


def _check_expiration(words: list[str]) -> None:
    parser = _parser()
    parser.add_argument("-o", "--output", choices=("text", "json"))
    upgrade.check_expiration(_parse(parser, words).output)


def _renew_all(words: list[str]) -> None:
    _parse(_parser(), words)
    upgrade.renew_all()
