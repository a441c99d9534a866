"""What an endpoint is: one declaration, from which the routes and the OpenAPI document are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from everwhen.web.problems import BAD_REQUEST, INVALID, UNSUPPORTED_MEDIA, ProblemError, ProblemKind

if TYPE_CHECKING:
    from everwhen.web.access import AccessScope, Caller
    from everwhen.web.hosting import HostedStore, Hosting

Q = TypeVar("Q", bound="NoParameters")
Handler: TypeAlias = Callable[["ApiCall[Any]"], Awaitable[Response]]
Method: TypeAlias = Literal["GET", "POST", "DELETE"]
JSON: Final = "application/json"
EVENT_STREAM: Final = "text/event-stream"


class NoParameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters of a request's query string: subclasses have a field for each.

    A name with an underscore in Python may have a dash or a keyword's name outside: say so with
    ``msgspec.field(name=…)``. A field that is a list takes the parameter several times.
    """


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method on one path.

    ``path`` is what comes after ``/v1``, with names in braces; each stands for one segment, which
    may have any characters, percent-encoded. ``of_branch`` puts it below ``/branches/{branch}``
    too. ``body`` is the type that JSON is read as, ``answers`` the type of JSON that a status has,
    or a media type for another form. ``problems`` are those that the endpoint itself ends with,
    beside what every one may. The handler's docstring describes it.
    """

    method: Method
    path: str
    handle: Handler
    scope: AccessScope
    parameters: type[NoParameters] = NoParameters
    headers: Mapping[str, str] = {}
    body: Any = None
    body_media: tuple[str, ...] = (JSON,)
    answers: Mapping[int, Any] = {}
    media: tuple[str, ...] = (JSON,)
    problems: tuple[ProblemKind, ...] = ()
    of_branch: bool = True

    @property
    def name(self) -> str:
        """What the operation is called: the handler's name."""
        return str(self.handle.__name__)

    @property
    def is_live(self) -> bool:
        """Whether its answer goes on until somebody ends it."""
        return EVENT_STREAM in self.answers.values()


class ApiCall(Generic[Q]):
    """A request that reached its endpoint: what was asked, by whom, and of which store."""

    def __init__(
        self, request: Request, endpoint: Endpoint, hosting: Hosting, on: HostedStore, by: Caller
    ) -> None:
        self.request = request
        self.hosting = hosting
        self.on = on
        self.by = by
        self.endpoint = endpoint
        self.asked: Q = parameters_of(request, endpoint.parameters)

    def segment(self, name: str) -> str:
        """The part of the path that stands for a name, decoded. Raises `ProblemError`."""
        return text_of(self.request.path_params[name])

    @property
    def above(self) -> str:
        """The path above the endpoint's own: ``/v1``, with the branch if it was named."""
        return str(self.request.scope["path"]).rsplit("/", self.endpoint.path.count("/"))[0]

    @property
    def query_string(self) -> bytes:
        """The parameters as they were sent."""
        return bytes(self.request.scope["query_string"])

    @cached_property
    def media(self) -> str:
        """The media type of the body, without parameters; empty where it isn't told."""
        given = self.request.headers.get("content-type", "")
        return given.partition(";")[0].strip().lower()

    async def json(self) -> Any:
        """The body, as the type that the endpoint declares. Raises `ProblemError`."""
        given = self.media
        if given not in self.endpoint.body_media:
            wanted = " or ".join(self.endpoint.body_media)
            raise ProblemError(
                UNSUPPORTED_MEDIA, f"the content is {given or 'of no type'}; send {wanted}"
            )
        return read_as(await self.request.body(), self.endpoint.body)


def read_as(body: bytes, kind: Any) -> Any:
    """The JSON body as that type. Raises `ProblemError`, which says where it isn't."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise ProblemError(INVALID, str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError(BAD_REQUEST, f"the body is no JSON: {error}") from error


def text_of(segment: str) -> str:
    """A segment of a path, decoded. Raises `ProblemError` where it is no text."""
    try:
        return unquote(segment, errors="strict")
    except UnicodeDecodeError as error:
        raise ProblemError(BAD_REQUEST, f"the path has {segment!r}: not UTF-8") from error


def parameters_of(request: Request, kind: type[NoParameters]) -> Any:
    """The query string as that type. Raises `ProblemError` for what can't be read as one."""
    fields = _fields_of(kind)
    found: dict[str, Any] = {}
    sent = request.scope["query_string"].decode("latin-1")
    for name, value in parse_qsl(sent, keep_blank_values=True) if sent else ():
        field = fields.get(name)
        if field is None:
            known = ", ".join(sorted(fields)) or "none"
            raise ProblemError(
                BAD_REQUEST, f"unknown parameter {name!r}; there are: {known}", parameter=name
            )
        if is_several(field.type):
            found.setdefault(name, []).append(value)
        elif name in found:
            raise ProblemError(
                BAD_REQUEST, f"parameter {name!r} is given twice; give it once", parameter=name
            )
        else:
            found[name] = value
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ProblemError(BAD_REQUEST, f"parameters: {error}") from error


@cache  # there is one of each endpoint, and looking at its types takes long
def _fields_of(kind: type[NoParameters]) -> dict[str, msgspec.structs.FieldInfo]:
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def is_several(kind: Any) -> bool:
    """Whether a field of that type takes a parameter several times."""
    return getattr(kind, "__origin__", None) in (list, tuple)
