"""`fleetune model …`: the registry of models, their versions and aliases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.cli.asking import HERE, Ask, DataDir, Noun, asks
from controlplane.cli.errors import plain_errors
from controlplane.cli.naming import check_name, tell_elsewhere
from controlplane.cli.tables.show import Column, field
from controlplane.domain.errors import FleetuneError, InvalidInput, unreadable
from controlplane.domain.models import ModelVersion, RegisteredModel, is_alias, is_digest, is_model_name

_LISTED = "etags:"  # what a digest of a listing begins with

Name = Annotated[str, typer.Argument(help="The model's name in the registry.")]


def _aliases(model: Any) -> list[str]:
    return [f"{name} → {alias['version']}" for name, alias in sorted(model["aliases"].items())]


def _versions(model: Any) -> list[str]:
    return [_version(each) for each in model["versions"]]


def _version(version: Any) -> str:
    scores = ", ".join(f"{name} {value:g}" for name, value in version["quality"].items())
    forms = ", ".join(each["name"] for each in version["variants"])
    digest = (version["digest"] or "no digest")[:19]
    extra = "; ".join(filter(None, [scores, f"also {forms}" if forms else "", version["note"]]))
    there = f", {version['origin']} in MLflow" if version["origin"] else ""
    return f"{version['number']}: {version['source']} ({digest}{there}){f'; {extra}' if extra else ''}"


def _origin(model: Any) -> list[str]:
    """What a model has of MLflow: which of its models it follows, and what keeps it from that."""
    origin = model["origin"]
    if origin is None:
        return ["nothing"]
    there = [f"{alias} → {seen['version']}" for alias, seen in sorted(origin["aliases"].items())]
    said = [f"{origin['model']} of MLflow; {', '.join(there) or 'no alias'} there"]
    return [*said, *filter(None, [origin["problem"]]), *origin["refused"].values()]


MODEL = Noun(
    "/models",
    columns=[
        Column("model", field("name")),
        Column("versions", lambda m: len(m["versions"])),
        Column("aliases", _aliases, text=True),
    ],
    details=[
        Column("model", field("name")),
        Column("aliases", _aliases),
        Column("follows", _origin),
        Column("versions", _versions),
    ],
    empty="no model registered; `fleetune model register NAME SOURCE`",
)

app = typer.Typer(help="Models, their versions and aliases.", no_args_is_help=True)


@app.command("list")
@asks
def list_(ask: Ask) -> None:
    """List registered models."""
    ask.show_list(MODEL, ask.client.get("/models")["items"])


@app.command("show")
@asks
def show(ask: Ask, name: Name) -> None:
    """Show one: versions, aliases, and what became of each version."""
    found = ask.client.get(f"/models/{name}")
    became = [_outcome(each) for each in ask.client.get(f"/models/{name}/lineage")["items"]]
    ask.show_one(MODEL, found, details=[Column("lineage", lambda _: became)])


@app.command("register")
@asks
def register(
    ask: Ask,
    name: Name,
    source: Annotated[str, typer.Argument(help="A folder, a hub name or a URL: what the engine is given.")],
    digest: Annotated[str | None, typer.Option(help="What its files must be; looked up when left out.")] = None,
    variant: Annotated[list[str], typer.Option(help="name=source of another form, e.g. fp8=/models/x-fp8.")] = [],  # noqa: B006 - typer copies it
    score: Annotated[list[str], typer.Option(help="name=number, a quality score.")] = [],  # noqa: B006
    note: Annotated[str, typer.Option(help="Kept with it.")] = "",
) -> None:
    """Register a version. So that it can be known again, a folder on this machine is read, a bucket's prefix listed."""
    check_name(name, is_model_name(name), "name of a model")
    if digest is not None and not is_digest(digest):
        raise InvalidInput(f"'{digest}' is no digest", allowed="sha256: or etags:, and 64 of 0-9 and a-f")
    body = {
        "source": source,
        "digest": _digest(source, digest),
        "variants": [{"name": key, "source": value, "digest": _digest(value, None)} for key, value in _pairs(variant)],
        "quality": {key: _number(key, value) for key, value in _pairs(score)},
        "note": note,
    }
    made = ask.client.post(f"/models/{name}/versions", body)
    typer.echo(f"{name} version {_version(made)}")


@app.command("verify")
@asks
def verify(
    ask: Ask, name: Name, version: Annotated[str, typer.Argument(help="A number, an alias, or latest.")]
) -> None:
    """Say whether a version's folder, or its prefix in a bucket, still holds the files that were registered."""
    from controlplane.adapters.object_digest import is_object_url

    found = _find(ask, name, version)
    if found.digest is None:
        raise InvalidInput(
            f"{name} version {found.number} has no digest",
            why="its files could not be looked at when it was registered",
            allowed="register it again where its folder is, or with what its bucket asks for",
        )
    if not Path(found.source).is_dir() and not is_object_url(found.source):
        raise InvalidInput(f"{found.source} is not here", allowed="ask where the folder is")
    if is_object_url(found.source) and not found.digest.startswith(_LISTED):
        raise InvalidInput(
            f"{name} version {found.number} cannot be verified in its bucket",
            why="its digest was given, of files' content, which nothing reads there",
            allowed=f"a digest as `model register` finds it ({_LISTED}...), or a folder with the same files",
        )
    _digest(found.source, found.digest)
    typer.echo(f"{name} version {found.number}: {found.source} is what was registered")


@app.command("alias")
@asks
def alias(
    ask: Ask,
    name: Name,
    alias: Annotated[str, typer.Argument(help="stable, candidate, or a name of your own.")],
    version: Annotated[str, typer.Argument(help="A number, another alias, or latest.")],
) -> None:
    """Point an alias to a version. Of two people who move it at once, one is told."""
    check_name(alias, is_alias(alias), "alias")
    present = ask.client.get(f"/models/{name}")["aliases"].get(alias)
    body = {"version": version, "seen": None if present is None else present["version"]}
    ask.show_one(MODEL, ask.client.put(f"/models/{name}/aliases/{alias}", body))


@app.command("serve")
@asks
def serve(
    ask: Ask,
    name: Name,
    version: Annotated[str, typer.Argument(help="A number, an alias, or latest.")],
    service: Annotated[str, typer.Option(help="The service that is to serve it.")],
    variant: Annotated[str | None, typer.Option(help="One of its other forms.")] = None,
) -> None:
    """Let a service serve a version: it goes out as a canary, and the alias stable follows its promotion.

    A prefix of a bucket is listed before: what is not what was registered is refused.
    """
    _check_bucket(ask, name, version, variant)
    found = ask.client.post(f"/models/{name}/serve", {"service": service, "version": version, "variant": variant})
    path, newest = found["spec"]["model"]["path"], ask.client.get("/rollouts", service=service)["items"][:1]
    if any(each["finished_at"] is None for each in newest):
        typer.echo(f"{service}: {path} goes out as a canary; `fleetune rollout list`")
    else:
        typer.echo(f"{service}: {path} is what it is to serve; no canary, for it serves that already or is stopped")


@app.command("fetch")
@plain_errors
def fetch(
    model: Annotated[str, typer.Argument(help="The registered model's name in MLflow.")],
    version: Annotated[str, typer.Argument(help="A number or an alias there.")],
    to: Annotated[Path, typer.Option(help="The folder that is to hold it, where engines read it.")],
    mlflow_url: Annotated[str | None, typer.Option(help="Default: the installation's.")] = None,
    data_dir: DataDir = HERE,
    max_gib: Annotated[float | None, typer.Option(help="Refuse what is larger.")] = None,
    keep_free_gib: Annotated[float, typer.Option(help="Leave so much of the disk free.")] = 10.0,
) -> None:
    """Bring the files of a version that MLflow keeps itself to this host, and tag it there with where they are.

    Goes on where a former call was cut off. A service that follows the model serves it then.
    """
    from controlplane.services.catalogue.fetch import fetch_version
    from controlplane.wiring.beside import open_mlflow

    catalogue = open_mlflow(mlflow_url or _installed_url(data_dir))
    found = fetch_version(
        catalogue,
        catalogue,
        model=model,
        reference=version,
        folder=to.resolve(),
        most_gib=max_gib,
        keep_free_gib=keep_free_gib,
        tell=typer.echo,
    )
    typer.echo(
        f"version {found.version}: {found.folder} ({found.digest[:19]}), {found.fetched} of {found.files} fetched"
    )


def _installed_url(data_dir: Path) -> str | None:
    from controlplane import settings as installation

    return installation.load(data_dir.resolve()).mlflow_url


def _outcome(row: Any) -> str:
    study = f", from study {row['study']}" if row["study"] else ""
    ended = f"{row['rollout']} {row['state']}: {row['reason']}" if row["rollout"] else "no rollout"
    return f"version {row['version']} → {row['revision']} of {row['service']}{study} → {ended}"


def _find(ask: Ask, name: str, version: str) -> ModelVersion:
    return RegisteredModel.model_validate(ask.client.get(f"/models/{name}")).find(version)


def _check_bucket(ask: Ask, name: str, reference: str, variant: str | None) -> None:
    """Refuse what lies in a bucket and is not what was registered. Raises InvalidInput, Unavailable."""
    found = _find(ask, name, reference)
    held = next((each for each in found.variants if each.name == variant), found)
    if held.digest is not None and held.digest.startswith(_LISTED):
        _digest(held.source, held.digest)


def _digest(source: str, wanted: str | None) -> str | None:
    """Return the digest of a local folder or a bucket's prefix, `wanted` for what is not within reach.

    Raises InvalidInput when it is another, Unavailable when one was wanted and the bucket cannot be asked.
    """
    from controlplane.adapters.object_digest import is_object_url, listing_digest
    from controlplane.host.digests import folder_digest

    try:
        if is_object_url(source) and (wanted is None or wanted.startswith(_LISTED)):
            found = listing_digest(source)
        elif Path(source).is_dir():
            found = folder_digest(Path(source))
        else:
            tell_elsewhere(source)
            return wanted
    except OSError as error:
        raise InvalidInput(f"cannot read {source}", why=unreadable(error)) from error
    except FleetuneError as error:
        if wanted is not None:
            raise
        typer.echo(f"{source} is registered without a digest: {error}", err=True)
        return None
    if wanted is not None and wanted != found:
        raise InvalidInput(f"{source} is not what it should be", why=f"its digest is {found}", allowed=wanted)
    return found


def _pairs(given: list[str]) -> list[tuple[str, str]]:
    pairs = [each.partition("=") for each in given]
    wrong = [name for name, equals, value in pairs if not (name and equals and value)]
    if wrong:
        raise InvalidInput(f"'{wrong[0]}' is no pair", allowed="name=value")
    return [(name, value) for name, _, value in pairs]


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InvalidInput(f"the score {name} is no number", why=f"it is '{text}'") from error
