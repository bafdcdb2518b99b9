"""The flags that Python code asks for, found in its syntax trees; nothing is imported or run.

Found are calls of a client's or flagkit's own verbs (as functions, decorators or context managers), OpenFeature's
getters, and declared ``flagkit.Flag``s. A flag may be named by a literal, by a constant of the module or class, or by
one imported from another file; a name's value is looked up by its simple name, over all files. A call on something
that is not known to be a client does not count, but every text that equals a flag's key is kept as a mention.
Called by ``lint``; knows nothing of definitions.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias

_VERBS: Final = frozenset({"enabled", "variant", "value", "decide", "peek", "explain", "gate", "shadow", "override"})
_OPENFEATURE: Final = frozenset(
    f"get_{kind}_{what}{tail}"
    for kind in ("boolean", "string", "integer", "float", "object")
    for what in ("value", "details")
    for tail in ("", "_async")
)
_FLAG_ARGUMENTS: Final = frozenset({"flag", "flag_key", "key"})
_KEY: Final = re.compile(r"[A-Za-z0-9._-]{1,128}").fullmatch
_IGNORE: Final = re.compile(rb"#\s*flagkit:\s*ignore\b")
_SKIPPED: Final = frozenset({"__pycache__", "node_modules", "site-packages"})

#: What names a flag in code, and how: by its key, by a name in sight, or by an attribute of something.
Reference: TypeAlias = tuple[str, Literal["key", "name", "attribute"]]


class Use(NamedTuple):
    """A flag asked for or declared. ``expires``: the date of the declaration, if this is one and it has one."""

    flag: str
    path: str
    line: int
    expires: str | None = None
    ignored: bool = False


class Place(NamedTuple):
    """A line that could not be read, and why."""

    path: str
    line: int
    message: str


class CodeFlags(NamedTuple):
    """What the code says of flags.

    mentions: every string in the code that could be a key. unread: calls whose flag is known only at run time.
    broken: files that are not Python.
    """

    uses: tuple[Use, ...]
    mentions: frozenset[str]
    unread: tuple[Place, ...]
    broken: tuple[Place, ...]


class _Call(NamedTuple):
    """A call of a verb. ``receiver``: the simple name it is called on; None when that is certain to be flagkit's."""

    flags: tuple[Reference, ...]
    receiver: str | None
    line: int
    column: int
    ignored: bool
    expires: str | None = None


class _Module:
    """One file: what it names, and what it calls. Its tree is not kept."""

    def __init__(self, path: str, source: bytes) -> None:
        self.path = path
        self.flagkit: set[str] = set()  # names of the module flagkit
        self.public: dict[str, str] = {}  # local name -> public name of flagkit
        self.imported: dict[str, str] = {}  # local name -> simple name elsewhere
        self.constants: dict[str, set[str]] = {}  # name of a module or class constant -> keys
        self.clients: set[str] = set()  # simple names that hold a client
        self.calls: list[_Call] = []
        self.mentions: set[str] = set()
        self._lines = source.splitlines()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the code's own affair
            tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        for node in nodes:
            self._import(node)
        for node in nodes:
            self._read(node)
        for statement in _top_level(tree.body):
            self._constant(statement)
        self.calls.sort(key=lambda call: (call.line, call.column))

    # -- names -------------------------------------------------------------------------------------------------------

    def _import(self, node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "flagkit" or (alias.name.startswith("flagkit.") and not alias.asname):
                    self.flagkit.add(alias.asname or "flagkit")
        elif isinstance(node, ast.ImportFrom):
            ours = node.module is not None and node.module.partition(".")[0] == "flagkit" and not node.level
            names = self.public if ours else self.imported
            names.update((alias.asname or alias.name, alias.name) for alias in node.names)

    def public_name(self, node: ast.expr) -> str | None:
        """The public name of flagkit that ``node`` stands for, if it does."""
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in self.flagkit:
            return node.attr
        return self.public.get(node.id) if isinstance(node, ast.Name) else None

    def _constant(self, statement: ast.Assign | ast.AnnAssign) -> None:
        """A string or a declared flag under a name at the top of the module or of a class."""
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        keys = {text for text, how in self._references(statement.value) if how == "key"} if statement.value else set()
        for target in targets:
            if isinstance(target, ast.Name) and keys:
                self.constants.setdefault(target.id, set()).update(keys)

    # -- clients and calls -------------------------------------------------------------------------------------------

    def _read(self, node: ast.AST) -> None:
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr, ast.withitem, ast.arg)):
            self._holder(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and self._is_client_type(node.returns):
            self.clients.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _KEY(node.value):
            self.mentions.add(node.value)
        elif isinstance(node, ast.Call):
            self._call(node)

    def _holder(self, node: ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.withitem | ast.arg) -> None:
        """Remember the names that hold a client from here on."""
        if isinstance(node, ast.arg):
            if self._is_client_type(node.annotation):
                self.clients.add(node.arg)
            return
        made = node.context_expr if isinstance(node, ast.withitem) else node.value
        typed = isinstance(node, ast.AnnAssign) and self._is_client_type(node.annotation)
        if not typed and not (isinstance(made, ast.Call) and self._makes_client(made.func)):
            return
        targets: list[ast.expr | None] = (
            list(node.targets)
            if isinstance(node, ast.Assign)
            else [node.optional_vars if isinstance(node, ast.withitem) else node.target]
        )
        self.clients |= {name for target in targets if target is not None and (name := _simple_name(target))}

    def _makes_client(self, called: ast.expr) -> bool:
        if isinstance(called, ast.Attribute) and called.attr == "from_file":
            called = called.value
        name = self.public_name(called)
        return name is not None and ("Client" in name or name == "configure")

    def _is_client_type(self, annotation: ast.expr | None) -> bool:
        return annotation is not None and any(
            self.public_name(part) == "Client"
            for part in ast.walk(annotation)
            if isinstance(part, (ast.Name, ast.Attribute))
        )

    def _call(self, node: ast.Call) -> None:
        called = node.func
        name = self.public_name(called)
        if name == "Flag":
            self._add(node, None, _keyword(node, "expires"))
        elif name in _VERBS or (isinstance(called, ast.Attribute) and called.attr in _OPENFEATURE):
            self._add(node, None)
        elif isinstance(called, ast.Attribute) and called.attr in _VERBS:
            self._add(node, _simple_name(called.value) or "")

    def _add(self, node: ast.Call, receiver: str | None, expires: str | None = None) -> None:
        asked = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg in _FLAG_ARGUMENTS), None)
        if asked is None or (isinstance(asked, ast.Constant) and not isinstance(asked.value, str)):
            return
        lines = self._lines[node.lineno - 1 : node.end_lineno]
        ignored = any(_IGNORE.search(line) for line in lines)
        flags = tuple(self._references(asked))
        self.calls.append(_Call(flags, receiver, node.lineno, node.col_offset, ignored, expires))

    def _references(self, node: ast.expr) -> Iterator[Reference]:
        """How ``node`` names flags; nothing when that cannot be read."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, "key"
        elif isinstance(node, ast.Name):
            yield node.id, "name"
        elif isinstance(node, ast.Attribute):
            inner = _simple_name(node.value) if node.attr in ("value", "key") else None
            yield inner or node.attr, "attribute"
        elif isinstance(node, ast.IfExp):
            yield from self._references(node.body)
            yield from self._references(node.orelse)
        elif isinstance(node, ast.Dict):  # of an override
            for key in node.keys:
                if key is not None:
                    yield from self._references(key)
        elif isinstance(node, ast.Call) and self.public_name(node.func) == "Flag" and node.args:
            yield from self._references(node.args[0])


def read_code(sources: Iterable[str]) -> CodeFlags:
    """What the Python files in ``sources`` (files, or directories to search) say of flags.

    Hidden directories, virtual environments and installed packages are left out. Raises: OSError.
    """
    modules: list[_Module] = []
    broken: list[Place] = []
    for path in _python_files(sources):
        try:
            modules.append(_Module(str(path), path.read_bytes()))
        except SyntaxError as error:
            broken.append(Place(str(path), error.lineno or 1, f"not Python that can be read: {error.msg}"))
        except (ValueError, RecursionError, MemoryError) as error:  # a null byte; expressions nested without end
            broken.append(Place(str(path), 1, f"not Python that can be read: {type(error).__name__}"))
    constants: dict[str, set[str]] = {}
    for module in modules:
        for name, keys in module.constants.items():
            constants.setdefault(name, set()).update(keys)
    clients = {name for module in modules for name in module.clients}
    uses: list[Use] = []
    unread: list[Place] = []
    for module in modules:
        for call in module.calls:
            if not _is_client(call.receiver, module, clients):
                continue
            flags = [flag for reference in call.flags for flag in _look_up(reference, module, constants)]
            uses += [Use(flag, module.path, call.line, call.expires, call.ignored) for flag in flags]
            if not flags and not call.ignored:
                unread.append(Place(module.path, call.line, "names its flag at run time"))
    mentions = frozenset().union(*(module.mentions for module in modules))
    return CodeFlags(tuple(uses), mentions, tuple(unread), tuple(broken))


def _is_client(receiver: str | None, module: _Module, clients: set[str]) -> bool:
    """Whether calls on ``receiver`` are calls of a flagkit client: known to be one, or named like one."""
    if receiver is None:
        return True
    name = module.imported.get(receiver, receiver)
    return name in clients or name == "client" or "flag" in name.lower()


def _look_up(reference: Reference, module: _Module, constants: dict[str, set[str]]) -> set[str]:
    text, how = reference
    if how == "key":
        return {text}
    if text in module.constants:
        return module.constants[text]
    if how == "name" and text not in module.imported and "*" not in module.imported:
        return set()  # a parameter or a local: a constant elsewhere that happens to have its name says nothing
    return constants.get(module.imported.get(text, text), set())


def _simple_name(node: ast.expr) -> str | None:
    """The last name of ``a``, ``a.b`` or ``a.b()``."""
    if isinstance(node, ast.Call):
        node = node.func
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def _keyword(node: ast.Call, name: str) -> str | None:
    for keyword in node.keywords:
        if keyword.arg == name and isinstance(keyword.value, ast.Constant) and isinstance(keyword.value.value, str):
            return keyword.value.value
    return None


def _top_level(body: Iterable[ast.AST]) -> Iterator[ast.Assign | ast.AnnAssign]:
    """Assignments of the module and its classes, not of functions."""
    for statement in body:
        if isinstance(statement, (ast.Assign, ast.AnnAssign)):
            yield statement
        elif not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for field in ("body", "orelse", "handlers", "finalbody"):
                yield from _top_level(getattr(statement, field, ()))


def _python_files(sources: Iterable[str]) -> Iterator[Path]:
    for source in sources:
        path = Path(source)
        yield from _inside(path) if path.is_dir() else (path,)


def _inside(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            # A linked directory is read where it is, and could be a loop here.
            if path.name not in _SKIPPED and not path.is_symlink() and not (path / "pyvenv.cfg").exists():
                yield from _inside(path)
        elif path.suffix == ".py" and path.is_file():
            yield path
