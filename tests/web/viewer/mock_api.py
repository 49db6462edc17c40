"""A small server that keeps the viewer's contract: quick, and it breaks on demand."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import mimetypes
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from PIL import Image

from strokeseg.imaging import components
from strokeseg.segmentation import models
from tests.web.viewer.mock_studies import Mock, Study

STATIC = Path(__file__).parents[3] / "src/strokeseg/web/static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self' blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
CHUNK = 1_000_000


def _app(mock: Mock) -> FastAPI:
    app = FastAPI()
    api = FastAPI()
    _guard(app, mock)
    _uploads(api, mock)
    _studies(api, mock)
    _pixels(api, mock)
    _comparisons(api, mock)

    @app.exception_handler(HTTPException)
    @api.exception_handler(HTTPException)
    async def _problem(request: Request, error: HTTPException) -> JSONResponse:
        problem = {
            "status": error.status_code,
            "title": str(error.detail),
            "detail": str(error.detail),
            "code": "not-found",
        }
        return JSONResponse(problem, error.status_code, media_type="application/problem+json")

    app.mount("/api/v1", api)
    app.mount("/static", StaticFiles(directory=STATIC))

    @app.get("/")
    async def index() -> FileResponse:
        return FileResponse(STATIC / "index.html")

    return app


def _guard(app: FastAPI, mock: Mock) -> None:
    @app.middleware("http")
    async def guard(request: Request, proceed: Any) -> Response:
        mock.loop = asyncio.get_running_loop()
        path = request.url.path
        if path.startswith("/api/") and not _entered(request, mock) and not path.endswith(("/me", "/auth/session")):
            problem = {"status": 401, "title": "Unauthorized", "detail": "No valid token.", "code": "unauthorized"}
            return JSONResponse(problem, 401, media_type="application/problem+json")
        if request.method in ("POST", "PATCH", "DELETE") and request.headers.get("x-strokeseg") != "1":
            return JSONResponse({"status": 403, "detail": "X-StrokeSeg is missing", "code": "forbidden"}, 403)
        answer = await proceed(request)
        answer.headers["Content-Security-Policy"] = POLICY
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer  # type: ignore[no-any-return]


def _entered(request: Request, mock: Mock) -> bool:
    return mock.token is None or request.cookies.get("strokeseg_session") == mock.token


def _uploads(api: FastAPI, mock: Mock) -> None:
    @api.get("/me")
    async def me(request: Request) -> dict[str, Any]:
        kind = "off" if mock.token is None else "token" if _entered(request, mock) else "required"
        scopes = ["read", "write", "admin"] if kind != "required" else []
        return {"user": "tester", "group": None, "scopes": scopes, "auth": kind, "oidc_login": mock.login}

    @api.post("/auth/session")
    async def session(request: Request) -> Response:
        if (await request.json())["token"] != mock.token:
            raise HTTPException(401, "This token is not known.")
        answer = Response(status_code=204)
        answer.set_cookie("strokeseg_session", mock.token or "", httponly=True, samesite="strict")
        return answer

    @api.post("/studies", status_code=201)
    async def post(request: Request) -> dict[str, Any]:
        key = request.headers["idempotency-key"]
        form = await request.form()
        files = form.getlist("files")
        fields = {name: str(value) for name, value in form.items() if name != "files"}
        if key not in mock.keys:
            names = [str(file.filename) for file in files]  # type: ignore[union-attr]
            mock.keys[key] = mock.submit(fields, names, [file.size or 0 for file in files]).id  # type: ignore[union-attr]
        return mock.studies[mock.keys[key]].public()

    @api.post("/uploads", status_code=201)
    async def begin(request: Request) -> dict[str, Any]:
        upload = {**await request.json(), "id": f"u{len(mock.uploads)}", "data": bytearray()}
        mock.uploads[upload["id"]] = upload
        return {"id": upload["id"], "offset": 0, "chunk_bytes": CHUNK}

    @api.get("/uploads/{id}")
    async def offset(id: str) -> dict[str, Any]:
        if id not in mock.uploads:
            raise HTTPException(404, "There is no such upload.")
        return {"offset": len(mock.uploads[id]["data"]), "size": mock.uploads[id]["size"]}

    @api.patch("/uploads/{id}")
    async def piece(id: str, request: Request) -> Response:
        data = mock.uploads[id]["data"]
        if int(request.headers["upload-offset"]) != len(data):
            return JSONResponse({"status": 409, "detail": "wrong offset", "code": "conflict"}, 409)
        data.extend(await request.body())
        return Response(status_code=204, headers={"Upload-Offset": str(len(data))})

    @api.post("/uploads/finish", status_code=201)
    async def finish(request: Request) -> dict[str, Any]:
        fields = await request.json()
        uploads = [mock.uploads[id] for id in fields.pop("uploads")]
        assert all(len(upload["data"]) == upload["size"] for upload in uploads)
        return mock.submit(fields, [u["name"] for u in uploads], [len(u["data"]) for u in uploads]).public()


def _studies(api: FastAPI, mock: Mock) -> None:
    def known(id: str) -> Study:
        if id not in mock.studies:
            raise HTTPException(404, "There is no such study.")
        return mock.studies[id]

    @api.get("/studies")
    async def studies(q: str = "", limit: int = 50) -> dict[str, Any]:
        return {"items": [s.public() for s in mock.studies.values() if q.lower() in s.name.lower()], "next": None}

    @api.get("/studies/events")
    async def events() -> StreamingResponse:
        queue: asyncio.Queue[str] = asyncio.Queue()
        mock.streams.add(queue)

        async def stream() -> Any:
            try:
                yield ": connected\n\n"
                while True:
                    yield await queue.get()
            finally:
                mock.streams.discard(queue)

        return StreamingResponse(stream(), media_type="text/event-stream")

    @api.get("/studies/{id}")
    async def study(id: str) -> dict[str, Any]:
        return known(id).public()

    @api.delete("/studies/{id}")
    async def delete(id: str) -> Response:
        del mock.studies[known(id).id]
        mock.broadcast("deleted", {"id": id})
        return Response(status_code=204)

    @api.post("/studies/{id}/cancel", status_code=202)
    async def cancel(id: str) -> dict[str, Any]:
        mock.update(known(id), status="cancelled")
        return known(id).public()

    @api.post("/studies/{id}/retry", status_code=202)
    async def retry(id: str) -> dict[str, Any]:
        mock.update(known(id), status="queued", error=None)
        threading.Thread(target=mock.work, args=(known(id),), daemon=True).start()
        return known(id).public()

    @api.post("/studies/{id}/versions", status_code=202)
    async def version(id: str, request: Request, author: str, note: str = "", accepted: bool = False) -> dict[str, Any]:
        study = known(id)
        mask = np.frombuffer(gzip.decompress(await request.body()), np.uint8).reshape(study.results[0].mask.shape) > 0
        threading.Thread(target=mock.correct, args=(study, mask, author, note), daemon=True).start()
        mock.received.append({"author": author, "note": note, "accepted": accepted, "mask": mask})
        return {**study.public(), "status": "measuring"}

    @api.get("/studies/{id}/result")
    async def result(id: str, version: int = 0) -> FileResponse:
        return FileResponse(known(id).folders[version] / "result.json")

    @api.get("/studies/{id}/files")
    async def files(id: str, version: int = 0) -> dict[str, Any]:
        paths = sorted(path for path in known(id).folders[version].iterdir() if path.is_file())
        return {"items": [_listed(path) for path in paths]}

    @api.get("/studies/{id}/files/{name}")
    async def file(id: str, name: str, version: int = 0) -> FileResponse:
        return FileResponse(known(id).folders[version] / name, filename=name)

    @api.get("/studies/{id}/download")
    async def download(id: str, version: int = 0) -> Response:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for path in known(id).folders[version].iterdir():
                archive.write(path, path.name)
        disposition = {"Content-Disposition": f'attachment; filename="{id}.zip"'}
        return Response(packed.getvalue(), media_type="application/zip", headers=disposition)


def _listed(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    kind = mimetypes.guess_type(path.name)[0]
    return {"name": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest(), "media_type": kind}


def _pixels(api: FastAPI, mock: Mock) -> None:
    def stored(study: Study, values: np.ndarray[Any, Any]) -> bytes:
        """Return the pixels upside down, if the mock scanner stores them so."""
        return np.ascontiguousarray(values[..., ::-1, ::-1] if study.turned else values).tobytes()

    @api.get("/studies/{id}/slices")
    async def meta(id: str) -> dict[str, Any]:
        turned, scan = mock.studies[id].turned, mock.studies[id].source.scan  # type: ignore[union-attr]
        return {"slices": scan.shape[0], "rows": scan.shape[1], "columns": scan.shape[2], "calibrated": scan.calibrated,
                "window": scan.window or (40, 80), "pixel_spacing_mm": scan.pixel_spacing_mm,
                "slice_positions_mm": scan.planes.along_normal_mm.tolist(),
                "orientation": dict(zip(("right", "left", "top", "bottom"), "RLPA" if turned else "LRAP", strict=True)),
                "upright": {"flip_rows": turned, "flip_columns": turned},
                "dtype": "int16", "byte_order": "little"}  # fmt: skip

    @api.get("/studies/{id}/slices/{index}")
    async def one(id: str, index: int) -> Response:
        values = mock.studies[id].source.scan.hu[index].astype("<i2")  # type: ignore[union-attr]
        return Response(gzip.compress(stored(mock.studies[id], values), 1), media_type="application/octet-stream",
                        headers={"Content-Encoding": "gzip"})  # fmt: skip

    @api.get("/studies/{id}/mask")
    async def mask(id: str, version: int = 0) -> Response:
        result = mock.studies[id].results[version]
        labels, _ = components.label(result.mask, result.scan)
        packed = gzip.compress(stored(mock.studies[id], np.minimum(labels, 255).astype(np.uint8)), 1)
        return Response(packed, media_type="application/octet-stream", headers={"Content-Encoding": "gzip"})

    @api.get("/studies/{id}/thumbnail")
    async def thumbnail(id: str) -> Response:
        hu = mock.studies[id].source.scan.hu  # type: ignore[union-attr]
        grey = np.clip((hu[len(hu) // 2].astype(float)) / 80 * 255, 0, 255).astype(np.uint8)
        picture, packed = Image.fromarray(grey), io.BytesIO()
        picture.thumbnail((160, 160))
        picture.save(packed, "PNG")
        return Response(packed.getvalue(), media_type="image/png")

    @api.get("/models")
    async def cards() -> dict[str, Any]:
        return {"items": [json.loads(path.read_text()) for path in models.SHIPPED_FOLDER.glob("*.json")]}


def _comparisons(api: FastAPI, mock: Mock) -> None:
    @api.post("/studies/{id}/compare/{other}", status_code=202)
    async def compare(id: str, other: str) -> dict[str, Any]:
        comparison = {
            "id": f"c{len(mock.comparisons)}",
            "earlier": id,
            "later": other,
            "status": "queued",
            "error": None,
        }
        mock.comparisons[comparison["id"]] = comparison
        threading.Thread(target=mock.compare, args=(comparison,), daemon=True).start()
        return comparison

    @api.get("/comparisons/{id}")
    async def comparison(id: str) -> dict[str, Any]:
        return mock.comparisons[id]

    @api.get("/comparisons/{id}/result")
    async def change(id: str) -> FileResponse:
        return FileResponse(mock.folder / id / "change.json")

    @api.get("/comparisons/{id}/files/{name}")
    async def change_file(id: str, name: str) -> FileResponse:
        return FileResponse(mock.folder / id / name, filename=name)


class Running:
    """A mock that answers on a free port of this machine, until :meth:`stop`."""

    def __init__(self, mock: Mock) -> None:
        self.server = uvicorn.Server(uvicorn.Config(_app(mock), port=0, log_level="error", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}/"

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(5)
