"""The command `serve`: an OpenAI-compatible server that improves before it answers."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

__all__ = ["serve"]

_GRACE = 30  # seconds to answer what was asked, once it is to end
_HERE = ("127.0.0.1", "localhost", "::1")


def serve(  # noqa: PLR0913  each is an option of the command line
    model: Annotated[
        str, typer.Argument(help="tiny, a folder, a hub id, or a finished run's folder.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Fields of `engine`, e.g. dtype=float32 chat=true.")
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address; any but this machine's needs a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port.")] = 8000,
    upstream: Annotated[
        str | None,
        typer.Option(help="URL of a server that draws, e.g. vLLM's; MODEL is its name there."),
    ] = None,
    method: Annotated[
        Literal["none", "pit", "vote", "best_of_n", "self_refine"],
        typer.Option(help="How a request is answered that does not say [none; of a PIT run pit]."),
    ]
    | None = None,
    n: Annotated[int, typer.Option(min=2, max=64, help="Draws of vote and best_of_n.")] = 8,
    steps: Annotated[int, typer.Option(min=1, max=16, help="Steps of pit and self_refine.")] = 3,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(help="A further name by which a server of this machine may be asked for."),
    ] = None,
    key_env: Annotated[
        str, typer.Option(help="Environment variable that holds the key which clients must send.")
    ] = "SELFIMPROVE_API_KEY",
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one response, at most.")] = 4096,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Requests that may wait; more get a 429.")
    ] = 256,
) -> None:
    """Serve a model or a run behind OpenAI's interface; what is asked for is improved first."""
    from selfimprove.config import overridden
    from selfimprove.errors import ConfigError

    key = os.environ.get(key_env, "").strip() or None
    if host not in _HERE and key is None:
        raise ConfigError(f"--host {host} can be reached by others: set a key in {key_env} first")
    try:
        import uvicorn

        from selfimprove.serve.app import Limits, app_of
    except ImportError as error:
        raise ConfigError(
            f"serving needs an extra: pip install 'selfimprove[serve]', in a checkout '.[serve]' ({error})"
        ) from None
    from selfimprove.serve.protocol import Improve
    from selfimprove.serve.served_models import Models

    models = Models.of(model, overridden({}, overrides or []), upstream)
    usual = method or ("pit" if models.improver is not None else "none")
    improve = Improve(method=usual, n=n, steps=steps)
    if (why := models.can(improve)) is not None:
        raise ConfigError(why)
    print(f"{models.name} at http://{host}:{port}/v1, answered by method {usual}"
          f"{', with a key' if key else ''}; Ctrl-C ends it", flush=True)  # fmt: skip
    # A page in a browser may give this address a name of its own; a server that others reach has a key.
    hosts = {*_HERE, "[::1]", *(name.lower() for name in allow_host or ())}
    app = app_of(models, improve=improve, key=key, hosts=hosts if host in _HERE else None,
                 limits=Limits(waiting=max_waiting, max_tokens=max_tokens))  # fmt: skip
    uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False,
                timeout_graceful_shutdown=_GRACE)  # fmt: skip
