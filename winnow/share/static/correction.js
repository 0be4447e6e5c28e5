import { freshId, h } from "./dom.js";

/**
 * "That's wrong": the visitor picks the right label and agrees, for this photo, that it is kept.
 * `send(label)` resolves with {kept, message}.
 */
export function correctionForm(answer, info, send) {
  const select = h("select", { id: freshId("label"), required: true }, h("option", { value: "" }, "choose…"),
    info.labels.filter((l) => l !== answer.label).map((label) => h("option", { value: label }, label)),
    answer.unlike ? h("option", { value: answer.label }, answer.label) : null);
  const agree = h("input", { type: "checkbox", id: freshId("agree"), required: true });
  const status = h("p.note", { role: "status" });
  const submit = h("button.primary", { type: "submit" }, "Send correction");
  const form = h(
    "form.correction", {},
    h("p", {}, h("label", { for: select.id }, "This is really "), select),
    h("p.agree", {}, agree, h("label", { for: agree.id }, "The owner of this app may keep this photo to improve it")),
    h("div.row", {}, submit), status,
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    status.textContent = "Sending…";
    const { kept, message } = await send(select.value).catch((e) => ({ kept: false, message: e.message }));
    if (!kept) submit.disabled = false;
    status.textContent = message;
    if (kept) form.replaceChildren(status);
  });
  return h("details.wrong", {}, h("summary", {}, "That’s wrong"), form);
}
