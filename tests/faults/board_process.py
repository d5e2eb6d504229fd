"""A board whose power can be cut: an SSH server in a process of its own, with a port and a host key that stay."""

from __future__ import annotations

import sys
from pathlib import Path

import asyncssh

from tests import sshd


def main() -> None:
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    key = folder / "host_key"
    if not key.exists():
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(key)
    with sshd.asyncssh_server(folder, port=port, host_key=asyncssh.read_private_key(key)) as server:
        (folder / "port").write_text(str(server.port))
        sys.stdin.read()


main()
