// Keys that are pressed in a tlkit widget belong to its control. Without this, JupyterLab and Notebook 7 take arrow keys
// and letters for commands of the notebook: they select another cell, or insert one.
//
// The mark must sit on the element that has the focus. Capturing on the window comes before the notebook, which listens
// on the document. Escape leads back to the notebook's cell, and Ctrl, Alt and Cmd combinations stay its shortcuts.
const MARK = "data-lm-suppress-shortcuts";
const PANEL = ".tlkit-widget";
let described = 0; // readouts need names of their own, on the whole page

function guard(event) {
  const target = event.target;
  if (!(target instanceof Element) || !target.closest(PANEL)) return;
  const forNotebook = event.key === "Escape" || event.ctrlKey || event.altKey || event.metaKey;
  target.toggleAttribute(MARK, !forNotebook);
  if (event.key === "Escape") target.closest(".jp-Cell")?.focus();
}

// ipywidgets gives a slider no name and the value of its list no voice: only its place in the list, such as "3.00".
function nameSlider(slider) {
  const whole = slider.closest(".widget-slider");
  const readout = whole.querySelector(".widget-readout");
  slider.setAttribute("aria-label", whole.querySelector(".widget-label").textContent);
  readout.id ||= `tlkit-readout-${Date.now()}-${described++}`;
  slider.setAttribute("aria-describedby", readout.id);
}

// What unfolds a part of a widget answers to clicks only.
function openByKeys(header) {
  const tell = () => header.setAttribute("aria-expanded", !header.nextElementSibling.matches(".lm-mod-hidden"));
  header.setAttribute("role", "button");
  header.tabIndex = 0;
  header.addEventListener("click", tell);
  header.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    header.click();
  });
  tell();
}

function complete(panel) {
  panel.querySelectorAll(".widget-slider [role=slider]:not([aria-label])").forEach(nameSlider);
  panel.querySelectorAll(".jupyter-widget-Collapse-header:not([role])").forEach(openByKeys);
}

function render({ el }) {
  el.style.display = "none";
  window.addEventListener("keydown", guard, true);
  let waiting;
  const controls = new MutationObserver(() => complete(el.closest(PANEL)));
  const begin = () => {
    const panel = el.closest(PANEL);
    if (!panel) return (waiting = requestAnimationFrame(begin)); // the view is not in its place yet
    controls.observe(panel, { childList: true, subtree: true }); // rows come and go
    complete(panel);
  };
  begin();
  return () => {
    window.removeEventListener("keydown", guard, true);
    cancelAnimationFrame(waiting);
    controls.disconnect();
  };
}

export default { render };
