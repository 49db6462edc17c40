"""Run the cells of examples/notebook.ipynb and store their outputs in it, as HTML or text.

`make picture` calls it. It needs pandas and ipyniivue, but not Jupyter.
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
    """Run the code cells in order and store their outputs; return the namespace of the cells."""
    namespace: dict = {}
    for number, cell in enumerate((cell for cell in notebook["cells"] if cell["cell_type"] == "code"), 1):
        value = evaluate("".join(cell["source"]), namespace)
        cell["execution_count"], cell["outputs"] = number, []
        if value is not None:
            result = {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": format_output(value),
            }
            cell["outputs"].append(result)
    return namespace


def evaluate(source: str, namespace: dict) -> object:
    """Run a cell; return the value of its last line if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK.name), "exec"), namespace)
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK.name), "eval"), namespace) if last else None


def format_output(value: object) -> dict:
    if hasattr(value, "comm"):  # a widget would store the whole scan
        return {"text/plain": [f"{type(value).__name__}()"]}
    if hasattr(value, "_repr_html_"):
        return {"text/html": value._repr_html_().splitlines(True), "text/plain": [type(value).__name__]}
    return {"text/plain": repr(value).splitlines(True)}


if __name__ == "__main__":
    main()
