"""Makes mypy check requests to actors: `ActorRef[M].ask(request)` is an error if ``request`` is not one of ``M``.

`tell` needs no help: its argument is the type argument of the reference. The argument of `ask` gives the type of the reply as
well, and Python has no type for "an `M` that is also a `Request[Reply]`".
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import MethodContext, Plugin
from mypy.subtypes import is_subtype
from mypy.types import AnyType, Instance, Type, UnionType, get_proper_type

ASK = "runtime.reference.ActorRef.ask"


class MessagePlugin(Plugin):
    """Hooks into calls of `ask`."""

    def get_method_hook(self, fullname: str) -> Callable[[MethodContext], Type] | None:
        """Part of mypy's protocol for plugins."""
        return _check_request if fullname == ASK else None


def _check_request(context: MethodContext) -> Type:
    reference = get_proper_type(context.type)
    if not isinstance(reference, Instance) or not reference.args or not context.arg_types[0]:
        return context.default_return_type
    request = get_proper_type(context.arg_types[0][0])
    for one in request.items if isinstance(request, UnionType) else [request]:
        member = get_proper_type(one)
        if not isinstance(member, AnyType) and not is_subtype(member, reference.args[0]):
            context.api.fail(f"{member} is none of the messages {reference.args[0]}", context.context)
    return context.default_return_type


def plugin(_version: str) -> type[Plugin]:
    """Entry point that mypy calls."""
    return MessagePlugin
