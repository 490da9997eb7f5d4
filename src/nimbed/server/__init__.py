"""A server of embeddings and reranks over HTTP, in the dialects that clients speak. See ``docs/server.md``."""

from nimbed.errors import MissingExtraError

try:
    import orjson  # noqa: F401
except ImportError as err:
    raise MissingExtraError('nimbed.server needs orjson and uvicorn: pip install "nimbed[serve]"') from err

from nimbed.server.app import App, create_app, from_environment
from nimbed.server.settings import Access, Alias, Limits, ModelSettings, ServerSettings

__all__ = [
    "Access",
    "Alias",
    "App",
    "Limits",
    "ModelSettings",
    "ServerSettings",
    "create_app",
    "from_environment",
]
