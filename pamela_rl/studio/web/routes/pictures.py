"""Requests for pictures: seeing, adding and removing one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, Response

from pamela_rl.studio.database.access import NotFound, owned
from pamela_rl.studio.database.schema import Picture
from pamela_rl.studio.importing import has_room
from pamela_rl.studio.pictures import add_picture, picture_file, remove_files, small_file
from pamela_rl.studio.uploads import decoded
from pamela_rl.studio.web.strings import say
from pamela_rl.studio.web.visitor import Here, Me

router = APIRouter()
KEPT = "private, max-age=31536000, immutable"  # a picture never changes under its id
LONGEST_PROMPT = 2000


@router.get("/pictures/{id}")
def picture(id: str, studio: Here, me: Me) -> Response:
    """Return a picture."""
    with studio.database.session() as session:
        owned(session, Picture, id, me.id)
    return _file(picture_file(studio.settings.folder, me.id, id), "image/png")


@router.get("/pictures/{id}/small")
def small(id: str, studio: Here, me: Me) -> Response:
    """Return it, small."""
    with studio.database.session() as session:
        owned(session, Picture, id, me.id)
    return _file(small_file(studio.settings.folder, me.id, id), "image/jpeg")


@router.post("/api/pictures")
def add(
    studio: Here, me: Me, files: Annotated[list[UploadFile], File()], prompt: Annotated[str, Form()] = ""
) -> dict[str, Any]:
    """Add pictures; those that are none are listed with why."""
    limits = studio.settings.uploads
    if len(files) > limits.files:
        raise HTTPException(413, say("errors.too_many_files", n=len(files), most=limits.files))
    if len(prompt) > LONGEST_PROMPT:
        raise HTTPException(400, say("errors.long_prompt", most=LONGEST_PROMPT))
    added, refused = [], []
    sent = ((file.filename or "", file.file.read()) for file in files)
    for name, made in decoded(sent, limits):
        if isinstance(made, str):
            refused.append({"name": name, "why": made})
            continue
        with studio.database.changing() as session:
            if not has_room(session, studio.settings, me.id):
                refused.append({"name": name, "why": say("errors.library_full", most=limits.pictures)})
                continue
            kept = add_picture(session, studio.settings.folder, me.id, made, prompt=prompt, origin="upload")
            added.append(as_json(kept))
    studio.changed(me.id)
    return {"added": added, "refused": refused}


@router.delete("/api/pictures/{id}")
def remove(id: str, request: Request, studio: Here, me: Me) -> dict[str, Any]:
    """Remove a picture for good."""
    with studio.database.changing() as session:
        gone = owned(session, Picture, id, me.id)
        session.delete(gone)
    remove_files(studio.settings.folder, [gone])
    studio.audit(me.id, "deleted", request, picture=id)
    studio.changed(me.id)
    return {}


def as_json(picture: Picture) -> dict[str, Any]:
    """Return what a page is told of a picture."""
    return {
        "id": picture.id, "src": f"/pictures/{picture.id}", "small": f"/pictures/{picture.id}/small",
        "width": picture.width, "height": picture.height, "prompt": picture.prompt,
    }  # fmt: skip


def _file(path: Path, media_type: str) -> Response:
    if not path.is_file():
        raise NotFound
    return FileResponse(path, media_type=media_type, headers={"cache-control": KEPT})
