"""Run the cells of examples/notebook.ipynb, and keep what they show in it: pages as HTML, all else as text.

`make picture` calls it. It needs pandas and ipyniivue, and no Jupyter.
"""

import ast
import json
import os
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "examples/notebook.ipynb"


def main() -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    os.chdir(NOTEBOOK.parent)
    run(notebook)
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"{NOTEBOOK.relative_to(ROOT)}: {NOTEBOOK.stat().st_size / 1e3:.0f} kB")


def run(notebook: dict) -> dict:
    """Run the code cells in their order, and put what each shows into it; gives the names that they made."""
    space: dict = {}
    for number, cell in enumerate((one for one in notebook["cells"] if one["cell_type"] == "code"), 1):
        value = evaluated("".join(cell["source"]), space)
        cell["execution_count"], cell["outputs"] = number, []
        if value is not None:
            result = {"output_type": "execute_result", "execution_count": number, "metadata": {}, "data": shown(value)}
            cell["outputs"].append(result)
    return space


def evaluated(source: str, space: dict) -> object:
    """Run a cell; gives the value of its last line where that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK.name), "exec"), space)
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK.name), "eval"), space) if last else None


def shown(value: object) -> dict:
    if hasattr(value, "comm"):  # a widget holds the whole scan: only its name is kept
        return {"text/plain": [f"{type(value).__name__}()"]}
    if hasattr(value, "_repr_html_"):
        return {"text/html": value._repr_html_().splitlines(True), "text/plain": [type(value).__name__]}
    return {"text/plain": repr(value).splitlines(True)}


if __name__ == "__main__":
    main()
