"""`python -m dalsegno.executor`: the standard executor, a worker with the built-in actions and those of packages."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dalsegno import core_files
from dalsegno.actions import grpc
from dalsegno.actions.registry import load_registry
from dalsegno.executor.settings import Settings, read_settings
from dalsegno.rpc import logs
from dalsegno.rpc.server import CannotListen
from dalsegno.worker.worker import Worker


def main(arguments: Sequence[str] | None = None) -> int:
    """Run an executor until SIGTERM or SIGINT. Return the exit code: 0, or 1 if it cannot start or was replaced."""
    settings = read_settings(arguments)
    core_files.write_none()
    logs.set_up("executor", settings.log_level)
    try:
        worker = Worker(
            *load_registry(allowed=settings.allow, files=_files(settings), reach=settings.private_networks),
            engine=settings.engines,
            id=settings.id,
            slots=settings.slots,
            threads=settings.threads,
            labels=settings.labels,
            limits=settings.limits,
            grace_s=settings.grace_s,
            tls=settings.tls.calls or False,
            token_file=settings.token_file,
            listen=settings.listen,
            metrics_port=settings.metrics_port,
        )
    except ValueError as error:
        return _refuse(error)
    print(f"executor {settings.id} works for {', '.join(settings.engines)}", flush=True)
    try:
        return worker.run()
    except (CannotListen, OSError) as error:
        return _refuse(error)


def _files(settings: Settings) -> grpc.Files:
    """Return the files of grpc.call."""
    return grpc.Files(settings.grpc_ca, settings.grpc_cert, settings.grpc_key, settings.grpc_descriptors)


def _refuse(error: Exception) -> int:
    print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
