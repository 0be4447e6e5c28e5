"""The ground that every browser test stands on: a real Voila, a real browser, a widget that answers."""

HELLO = """
import anywidget, ipywidgets, traitlets

class Hello(anywidget.AnyWidget):
    _esm = '''
    export default { render({ model, el }) {
      const button = document.createElement("button");
      const show = () => { button.textContent = `pressed ${model.get("count")}`; };
      button.addEventListener("click", () => { model.set("asked", model.get("asked") + 1); model.save_changes(); });
      model.on("change:count", show);
      show();
      el.append(button);
    } };
    '''
    asked = traitlets.Int(0).tag(sync=True)
    count = traitlets.Int(0).tag(sync=True)

    @traitlets.observe("asked")
    def _answer(self, change):
        self.count = 10 * change["new"]

ipywidgets.VBox([ipywidgets.HTML("<p>hello</p>"), Hello()])
"""


def test_a_click_in_the_page_reaches_python_and_the_answer_comes_back(page, voila, write_notebook):
    page.goto(voila(write_notebook(HELLO)))
    page.get_by_role("button", name="pressed 0").click()
    page.get_by_role("button", name="pressed 10").wait_for()


def test_axe_names_a_button_that_has_no_name(page, axe):
    page.set_content("<html lang=en><title>t</title><main><h1>t</h1><button></button></main>")
    assert any(fault.startswith("button-name (critical)") for fault in axe(page))
    page.set_content("<html lang=en><title>t</title><main><h1>t</h1><button>Go</button></main>")
    assert axe(page) == []
