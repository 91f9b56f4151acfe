"""The controller's API over HTTP; every request is written down."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from tests.integration.awx import rules
from tests.integration.awx.controller import BASE, Controller, Item, put
from tests.integration.awx.rules import Refused
from tests.integration.awx.shapes import SHAPES


class Handler(BaseHTTPRequestHandler):
    """HTTP around a controller."""

    controller: Controller
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Requests are kept, not printed."""

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def do_PATCH(self) -> None:
        self._serve("PATCH")

    def do_DELETE(self) -> None:
        self._serve("DELETE")

    def _serve(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(length)
        body = json.loads(raw) if raw else {}
        self.controller.requests.append((method, self.path, body))
        try:
            if self.headers.get("Authorization") != f"Bearer {self.controller.token}":
                raise Refused({"detail": "Authentication credentials were not provided."}, 401)
            parts = urlsplit(self.path)
            if not parts.path.startswith(BASE):
                raise Refused({"detail": "The requested resource could not be found."}, 404)
            # The server in front of AWX decodes the path: a name with a slash is another address.
            names = unquote(parts.path).removeprefix(BASE).strip("/").split("/")
            status, answer = Router(self.controller).answer(method, names, parse_qsl(parts.query), body)
        except Refused as refused:
            status, answer = refused.status, refused.body
        self._send(status, answer)

    def _send(self, status: int, answer: Any) -> None:
        data = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", "24.6.1")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Router:
    """From a path to what a controller does."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller

    def answer(self, method: str, names: list[str], query: list[tuple[str, str]], body: Item) -> tuple[int, Any]:
        resource = names[0]
        if resource == "roles" and len(names) == 3:
            return self._role(method, int(names[1]), names[2], query, body)
        if resource == "project_updates":
            return 200, self._update(self.controller.items["projects"][int(names[1])])
        computed = {"me": lambda _: [{"id": self.controller.user, "username": "builder"}], "unified_jobs": self._active}
        if resource in computed:
            return 200, self._page(f"{BASE}{resource}/", computed[resource](dict(query)), query)
        if resource not in SHAPES and resource != "unified_job_templates":
            raise Refused({"detail": "The requested resource could not be found."}, 404)
        if len(names) == 1:
            return self._collection(method, resource, query, body)
        item = self.controller.at(resource, names[1])
        if item is None:
            raise Refused({"detail": "Not found."}, 404)
        if len(names) == 2:
            return self._item(method, resource, item, body)
        return self._related(method, item, names[2], query, body)

    def _collection(self, method: str, resource: str, query: list[tuple[str, str]], body: Item) -> tuple[int, Any]:
        if method == "GET":
            found = self.controller.listing(resource, query)
            return 200, self._page(f"{BASE}{resource}/", [self.controller.shown(item) for item in found], query)
        if method != "POST" or resource == "unified_job_templates":
            raise Refused({"detail": f'Method "{method}" not allowed.'}, 405)
        made = self.controller.create(resource, body)
        shown = self.controller.shown(made)
        if resource == "projects" and made["scm_type"]:  # the first update begins by itself
            shown["summary_fields"]["current_update"] = {"id": made["id"]}
        return 201, shown

    def _item(self, method: str, resource: str, item: Item, body: Item) -> tuple[int, Any]:
        if method == "PATCH":
            self.controller.change(resource, item, body)
        elif method == "DELETE":
            self.controller.delete(resource, item)
            return (202 if resource == "inventories" else 204), None
        elif method != "GET":
            raise Refused({"detail": f'Method "{method}" not allowed.'}, 405)
        return 200, self.controller.shown(item)

    def _related(self, method: str, item: Item, what: str, query: list[tuple[str, str]], body: Item) -> tuple[int, Any]:
        controller = self.controller
        shape = SHAPES[controller._resource_of(item["id"])]
        if what == "survey_spec" and "survey_enabled" in shape.fields:
            if method == "POST":
                rules.check_survey(body)
                controller.surveys[item["id"]] = body
            elif method == "DELETE":
                controller.surveys.pop(item["id"], None)
            return 200, controller.surveys.get(item["id"], {})
        if what == "update" and shape.type == "project" and method == "POST":
            controller.synchronise(item)
            return 202, self._update(item)
        if what not in shape.lists:
            raise Refused({"detail": "Not found."}, 404)
        if method == "POST":
            controller.associate(item, what, body)
            return 204, None
        members = [controller._find(shape.lists[what], one) for one in controller.links.get((item["id"], what), [])]
        return 200, self._page(self._path(item, what), [controller.shown(one) for one in members if one], query)

    def _active(self, query: dict[str, str]) -> list[Item]:
        """The jobs that run, of the templates that are asked about."""
        asked = {int(one) for one in query.get("unified_job_template__in", "").split(",") if one}
        find = self.controller._find
        found = [find("unified_job_templates", one) for one in self.controller.active & asked]
        return [{"id": item["id"] + 1000, "name": item["name"], "status": "running"} for item in found if item]

    def _update(self, project: Item) -> Item:
        """An update of a project, which is over as soon as it was asked for."""
        return {
            "id": project["id"],
            "url": f"{BASE}project_updates/{project['id']}/",
            "status": project["status"],
            "finished": "now",
            "failed": project["status"] != "successful",
            "scm_revision": self.controller.revisions.get(project["id"], ""),
        }

    def _path(self, item: Item, what: str) -> str:
        return f"{BASE}{self.controller._resource_of(item['id'])}/{item['id']}/{what}/"

    def _role(self, method: str, role: int, who: str, query: list[tuple[str, str]], body: Item) -> tuple[int, Any]:
        controller = self.controller
        if role not in controller.role_ids.values() or who not in ("teams", "users"):
            raise Refused({"detail": "Not found."}, 404)
        members = controller.role_members.setdefault((role, who), [])
        if method == "POST":
            if body.get("id") not in controller.items[who]:  # a user's id, or a team's
                raise Refused({"msg": f"{who} {body.get('id')} does not exist."})
            put(members, body)
            return 204, None
        found = [controller.shown(controller.items[who][one]) for one in members if one in controller.items[who]]
        return 200, self._page(f"{BASE}roles/{role}/{who}/", found, query)

    def _page(self, path: str, results: list[Item], query: list[tuple[str, str]]) -> Item:
        """One page of a list, with the address of the next."""
        asked = dict(query)
        page, size = int(asked.get("page", 1)), int(asked.get("page_size", self.controller.page_size))
        rest = urlencode([("page", str(page + 1)), *((key, value) for key, value in query if key != "page")])
        more = page * size < len(results)
        return {
            "count": len(results),
            "next": f"{path}?{rest}" if more else None,
            "previous": None,
            "results": results[(page - 1) * size : page * size],
        }


@contextmanager
def running(token: str) -> Iterator[Controller]:
    """A controller that listens on a free port of the loopback."""
    controller = Controller(token)
    handler = type("Bound", (Handler,), {"controller": controller})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    controller.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield controller
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
