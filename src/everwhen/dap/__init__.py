"""The debugger's face for editors: an adapter for the Debug Adapter Protocol (DAP).

https://microsoft.github.io/debug-adapter-protocol
"""

from everwhen.dap.adapter import Adapter, Opener
from everwhen.dap.framing import MalformedMessageError
from everwhen.dap.messages import LaunchArguments
from everwhen.dap.server import serve_socket, serve_stdio

__all__ = [
    "Adapter",
    "LaunchArguments",
    "MalformedMessageError",
    "Opener",
    "serve_socket",
    "serve_stdio",
]
