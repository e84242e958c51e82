"""Requests about what one has: browsing it, bringing things along, and taking them home."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, File, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response, StreamingResponse

from pamela_rl.errors import DataError
from pamela_rl.studio.adapters import adapter_folder
from pamela_rl.studio.database.access import NotFound, of, owned
from pamela_rl.studio.database.schema import Picture, TrainedAdapter
from pamela_rl.studio.everything import is_everything, members
from pamela_rl.studio.exporting import (
    Member,
    adapter_members,
    as_csv,
    copy_into,
    given_ratings,
    liked,
    rated,
    zipped,
)
from pamela_rl.studio.importing import Imported, import_table
from pamela_rl.studio.taking_in import import_everything
from pamela_rl.studio.web.routes.pictures import as_json
from pamela_rl.studio.web.strings import say
from pamela_rl.studio.web.visitor import Here, Me, Studio, now_and_then, only_here

router = APIRouter()
PAGE = 60  # pictures
LEAST_LIKED = 4.0
HEAVY = [Depends(now_and_then)]


@router.get("/api/pictures")
def browse(
    studio: Here, me: Me, order: Literal["predicted", "given", "newest"] = "newest",
    only_liked: Annotated[bool, Query(alias="liked")] = False, page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> dict[str, Any]:  # fmt: skip
    """Return a page of one's pictures with what one gave them and what is foretold."""
    with studio.database.session() as session:
        pictures = session.scalars(of(Picture, me.id).order_by(Picture.created.desc(), Picture.id)).all()
        given = given_ratings(session, me.id)
    if only_liked:
        pictures = [picture for picture in pictures if given.get(picture.id, 0) >= LEAST_LIKED]
    taste = studio.parts["taste"]
    foretold = taste.predict(me.id, [picture.id for picture in pictures]) if order == "predicted" else {}
    if order != "newest":
        by = {id: mean for id, (mean, _) in foretold.items()} if order == "predicted" else given
        pictures = sorted(pictures, key=lambda picture: -by.get(picture.id, 0.0))
    shown = pictures[(page - 1) * PAGE : page * PAGE]
    foretold = foretold or taste.predict(me.id, [picture.id for picture in shown])
    return {
        "pictures": [_in_library(picture, given, foretold) for picture in shown],
        "pages": max(1, -(-len(pictures) // PAGE)),
    }


@router.post("/api/imports", dependencies=HEAVY)
def bring(
    studio: Here, me: Me, request: Request, file: Annotated[UploadFile, File()],
    images: Annotated[UploadFile | None, File()] = None,
) -> dict[str, Any]:  # fmt: skip
    """Take in a table with its images, or another studio's export."""
    with _kept(studio, file) as path, _kept(studio, images) as pictures:
        return _take_in(studio, me.id, request, path, pictures, file.filename or "the file")


@router.post("/api/imports/everything", dependencies=HEAVY)
def bring_everything(studio: Here, me: Me, request: Request, file: Annotated[UploadFile, File()]) -> dict[str, Any]:
    """Take in another studio's export."""
    with _kept(studio, file) as path:
        if not is_everything(path):
            raise DataError(say("errors.no_export"))
        return _take_in(studio, me.id, request, path, None, file.filename or "the file")


@router.post("/api/imports/folder", dependencies=[Depends(only_here), *HEAVY])
def bring_folder(path: Annotated[str, Body(embed=True)], studio: Here, me: Me, request: Request) -> dict[str, Any]:
    """Take in a folder or file of this machine."""
    place = Path(path).expanduser()
    if "\0" in path or not place.exists():
        raise DataError(say("errors.no_folder"))
    return _take_in(studio, me.id, request, place, None, str(place))


@router.post("/api/liked/copy", dependencies=[Depends(only_here)])
def copy_liked(
    folder: Annotated[str, Body()],
    studio: Here,
    me: Me,
    request: Request,
    least: Annotated[float, Body()] = LEAST_LIKED,
) -> dict[str, Any]:
    """Copy the pictures one likes into a folder of this machine."""
    if not folder.strip() or "\0" in folder:
        raise DataError(say("errors.no_folder"))
    with studio.database.session() as session:
        files = liked(session, studio.settings.folder, me.id, least)
    copied = copy_into(files, Path(folder).expanduser())
    studio.audit(me.id, "exported", request, what="liked", number=copied)
    return {"copied": copied}


@router.get("/export/liked.zip", dependencies=HEAVY)
def liked_zip(
    studio: Here, me: Me, request: Request, least: Annotated[float, Query(ge=1, le=5)] = LEAST_LIKED
) -> Response:
    """Return the pictures one likes."""
    with studio.database.session() as session:
        files = liked(session, studio.settings.folder, me.id, least)
    studio.audit(me.id, "exported", request, what="liked", number=len(files))
    return _zip(files.items(), "liked.zip")


@router.get("/export/ratings.csv", dependencies=HEAVY)
def ratings_csv(studio: Here, me: Me, request: Request) -> Response:
    """Return one's ratings, and what is foretold, as CSV."""
    rows = _rated(studio, me.id)
    studio.audit(me.id, "exported", request, what="ratings", number=len(rows))
    return Response(as_csv(rows), media_type="text/csv; charset=utf-8", headers=_named("ratings.csv"))


@router.get("/export/ratings.json", dependencies=HEAVY)
def ratings_json(studio: Here, me: Me, request: Request) -> Response:
    """Return the same as JSON."""
    rows = _rated(studio, me.id)
    studio.audit(me.id, "exported", request, what="ratings", number=len(rows))
    return JSONResponse(rows, headers=_named("ratings.json"))


@router.get("/export/everything.zip", dependencies=HEAVY)
def everything_zip(studio: Here, me: Me, request: Request) -> Response:
    """Return everything of oneself."""
    studio.audit(me.id, "exported", request, what="everything")
    return _zip(members(studio.database, studio.settings.folder, me.id, studio.parts["taste"]), "everything.zip")


@router.get("/adapters/{id}/download", dependencies=HEAVY)
def adapter_zip(id: str, studio: Here, me: Me, request: Request) -> Response:
    """Return an adapter, for diffusers and ComfyUI."""
    with studio.database.session() as session:
        place = adapter_folder(studio.settings.folder, owned(session, TrainedAdapter, id, me.id))
    if not place.is_dir():
        raise NotFound
    studio.audit(me.id, "exported", request, what="adapter", adapter=id)
    return _zip(adapter_members(place), "adapter.zip")


def _rated(studio: Studio, person_id: str) -> list[dict[str, Any]]:
    with studio.database.session() as session:
        return rated(session, person_id, studio.parts["taste"])


def _take_in(
    studio: Studio, person_id: str, request: Request, path: Path, images: Path | None, name: str
) -> dict[str, Any]:
    if is_everything(path):
        imported = import_everything(studio.database, studio.settings, person_id, path)
    else:
        imported = import_table(studio.database, studio.settings, person_id, path, images, name)
    studio.changed(person_id)
    studio.audit(person_id, "imported", request, pictures=imported.added, ratings=imported.ratings)
    return _told(imported)


def _told(imported: Imported) -> dict[str, Any]:
    refused = [{"name": name, "why": why} for name, why in imported.refused]
    return {"added": imported.added, "ratings": imported.ratings, "refused": refused}


@contextmanager
def _kept(studio: Studio, file: UploadFile | None) -> Iterator[Any]:
    """Give the path of what was sent, while it is read: of its name only the ending is kept, if it is an ordinary one."""
    if file is None:
        yield None
        return
    ending = os.path.splitext(file.filename or "")[1].lower()
    with tempfile.TemporaryDirectory(prefix=".upload-", dir=studio.settings.folder) as place:
        path = Path(place) / f"file{ending if ending.isascii() and ending[1:].isalnum() and len(ending) < 10 else ''}"
        with path.open("wb") as target:
            shutil.copyfileobj(file.file, target)
        yield path


def _in_library(picture: Picture, given: dict[str, float], foretold: dict[str, tuple[float, float]]) -> dict[str, Any]:
    mean, std = foretold.get(picture.id, (None, None))
    return as_json(picture) | {
        "rating": given.get(picture.id), "mean": mean, "std": std, "excluded": picture.excluded, "origin": picture.origin,
        "created": picture.created.replace(tzinfo=UTC).isoformat(),
    }  # fmt: skip


def _zip(content: Iterable[Member], name: str) -> Response:
    return StreamingResponse(zipped(content), media_type="application/zip", headers=_named(name))


def _named(name: str) -> dict[str, str]:
    return {"content-disposition": f'attachment; filename="{name}"'}
