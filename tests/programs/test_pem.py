"""Compare what etcd's client takes for certificates and keys with what we do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
)

from chaos_engine.deploys.certificates import PemFile, check_client
from chaos_engine.deploys.pem import Block, blocks
from chaos_engine.deploys.settings import SettingsError
from tests.programs.image import images
from tests.unit.real_programs import randoms
from tests.unit.test_etcd_certificates import CA, GOOD, NOW, Pair

OTHER = Pair("other", CA)
NOTHING = b"-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n"
PARTS = [GOOD.certificate, GOOD.private(), GOOD.private(old=True), OTHER.certificate]
EDITS: list[tuple[bytes, bytes]] = [
    *((b"-----BEGIN", before + b"-----BEGIN") for before in (b" ", b"\t", b"\xef\xbb\xbf", b"x\n")),
    *((b"-----\n", b"-----" + end) for end in (b" \t\n", b"\r\n", b"\r", b" x\n", b"\n\n", b"-\n")),
    *((b"-----\n", b"-----\n" + head) for head in (b"a: b\n", b"a: b\n\n", b"a\n", b":\n", b" \n")),
    *((b"-----END", before + b"-----END") for before in (b" ", b"\r\n", b"\n", b"=", b"=\n")),
    *((b"\n", end) for end in (b"\r\n", b" \n", b"\n\n", b"\r", b"", b"\n ", b"\n\t")),
    *((b"CERTIFICATE-", kind + b"-") for kind in (b"CERTIFICATE ", b"X509 CERTIFICATE", b"CERT")),
    *((b"PRIVATE KEY-", kind + b"-") for kind in (b"X PRIVATE KEY", b"PRIVATE KEY ", b"KEY", b"")),
    *((b"BEGIN ", word) for word in (b"BEGIN", b"BEGIN  ", b"begin ", b"BEGIN TRUSTED ")),
    *((b"END ", word) for word in (b"END", b"END  ", b"BEGIN ", b"END X ")),
    *((b"M", letter) for letter in (b"-", b"!", b"M ", b"M\x0b", b"=", b"")),
]


def text(random: Random) -> bytes:
    """Return a file with some of these blocks, most of them changed."""
    made = []
    for part in random.choices(PARTS, k=random.randint(1, 3)):
        for old, new in random.sample(EDITS, random.choice([0, 1, 1, 2])):
            everywhere = random.random() < 0.3
            part = part.replace(old, new, -1 if everywhere else 1)
        made.append(random.choice([b"", b"", b"", b"Bag: x\n", b"\n", b"\r\n", b"x"]) + part)
    data = b"".join(made)
    return data.rstrip(b"\n") if random.random() < 0.2 else data


def pair(found: list[Block]) -> bool:
    """Tell whether the first certificate of these blocks belongs to the first key."""
    certificate = parsed(next((block for block in found if block.is_certificate), None))
    key = next((block.der for block in found if block.is_key), b"")
    try:
        public = load_der_private_key(key, None).public_key()
    except ValueError:
        return False
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return certificate is not None and (
        public.public_bytes(*form) == certificate.public_key().public_bytes(*form)
    )


def parsed(block: Block | None) -> x509.Certificate | None:
    """Return the certificate in a block, `None` if there is none."""
    try:
        return x509.load_der_x509_certificate(block.der) if block else None
    except ValueError:
        return None


def etcdctl(**files: Path) -> str:
    """Return the error of etcdctl about these files, "" if it got as far as asking a server."""
    said = subprocess.run(
        [
            images().storage / "layer/usr/bin/etcdctl",
            *("--endpoints=https://127.0.0.1:1", "--dial-timeout=9ms", "--command-timeout=9ms"),
            *(f"--{option}={path}" for option, path in files.items()),
            *("get", "x"),
        ],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,  # it is 1 at best, as there is no server
    ).stderr.decode()
    error = said.strip().splitlines()[-1]
    return "" if "context deadline exceeded" in error else error


def test_go_finds_what_we_find(tmp_path: Path) -> None:
    file = tmp_path / "pem"
    wrong: list[object] = []
    for random in randoms():
        data = text(random)
        file.write_bytes(data)
        found = list(blocks(data))
        said = etcdctl(cert=file, key=file)
        if pair(found) == bool(said):
            wrong.append((data, said, found))
        said = etcdctl(cacert=file)
        if all(map(parsed, found)) == bool(said):
            wrong.append((data, said, found))
    assert wrong == [], "\n".join(map(str, wrong[:9]))


def test_go_takes_each_certificate_and_key_that_we_let_pass(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("client.crt", "client.key", "ca.crt")]
    wrong: list[object] = []
    for number, random in enumerate(randoms()):
        data = [GOOD.certificate, GOOD.private(), CA.certificate]
        which = number % 3
        for old, new in random.sample(EDITS, random.choice([1, 2])):
            data[which] = data[which].replace(old, new, random.choice([1, -1]))
        data[which] += random.choice([b"", b"", CA.certificate, b"\n", OTHER.certificate, NOTHING])
        for path, content in zip(paths, data, strict=True):
            path.write_bytes(content)
        client, key, authority = (PemFile("x", *one) for one in zip(paths, data, strict=True))
        try:
            check_client(client, key, authority, NOW)
        except SettingsError:
            continue
        said = etcdctl(cert=paths[0], key=paths[1], cacert=paths[2])
        if said:
            wrong.append((data[which], said))
    assert wrong == [], "\n".join(map(str, wrong[:9]))
