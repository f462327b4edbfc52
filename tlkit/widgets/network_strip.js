// The drawn network of a FreezePicker. Python decides what is frozen; here it is drawn, and moves are sent back.
const NS = "http://www.w3.org/2000/svg";
const TOP = 26; // room for the words above the blocks
const HEIGHT = 48; // of a block with parameters; the others are half as high
const LETTER = 6.4; // pixels, of the names
const COLORS = { frozen: "var(--tlkit-frozen)", trainable: "var(--tlkit-trainable)" }; // tlkit.colors
let drawn = 0; // patterns need names of their own, on the whole page

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function render({ model, el }) {
  const hatching = `tlkit-hatching-${Date.now()}-${drawn++}`;
  const root = document.createElement("div");
  root.className = "tlkit-strip";
  root.tabIndex = 0;
  root.setAttribute("role", "slider");
  root.setAttribute("aria-orientation", "horizontal");
  root.setAttribute("aria-label", "Boundary in the drawn network");
  const picture = svg("svg", { "aria-hidden": "true", focusable: "false" });
  root.append(picture);
  const words = document.createElement("div");
  words.className = "tlkit-strip-words";
  words.setAttribute("role", "status");
  const legend = document.createElement("div");
  legend.className = "tlkit-strip-words";
  const note = document.createTextNode("");
  for (const state of ["frozen", "trainable"]) {
    const sample = document.createElement("span");
    sample.className = `tlkit-strip-${state}`;
    legend.append(sample, `${state}\u2003`);
  }
  legend.append("▼ boundary\u2003", note);
  el.append(root, words, legend);

  const width = () => Math.max(root.clientWidth - 8, 280); // less its padding
  const edges = () => {
    let x = 0;
    return [0, ...model.get("widths").map((share) => (x += share * width()))];
  };

  function runs() {
    const found = [];
    model.get("frozen").forEach((frozen, number) => {
      const state = frozen ? "frozen" : "trainable";
      if (found.length && found.at(-1).state === state) found.at(-1).last = number;
      else found.push({ state, first: number, last: number });
    });
    return found;
  }

  function drawRun({ state, first, last }, at) {
    const [left, right] = [at[first], at[last + 1]];
    const parts = [svg("rect", { x: left, y: TOP - 8, width: Math.max(right - left - 1, 1), height: 4, fill: COLORS[state] })];
    if (right - left > state.length * 7.5 + 6) {
      const text = svg("text", { x: (left + right) / 2, y: TOP - 12, "text-anchor": "middle", "font-size": 13 }, state);
      text.style.fontWeight = "bold";
      parts.push(text);
    }
    return parts;
  }

  function drawBlock(number, at) {
    const height = model.get("weighty")[number] ? HEIGHT : HEIGHT / 2;
    const frozen = model.get("frozen")[number];
    const box = {
      x: at[number] + 0.5,
      y: TOP + (HEIGHT - height) / 2,
      width: Math.max(at[number + 1] - at[number] - 1, 0.5),
      height,
      stroke: COLORS[frozen ? "frozen" : "trainable"],
      "stroke-width": 0.5,
      fill: frozen ? `url(#${hatching})` : COLORS.trainable,
    };
    const title = svg("title", {}, `${model.get("details")[number]}, ${frozen ? "frozen" : "trainable"}`);
    return svg("rect", box, title);
  }

  // the names that fit: those at a boundary first, then the widest blocks
  function names(at) {
    const all = model.get("names"), marks = model.get("marks");
    const middle = (number) => (at[number] + at[number + 1]) / 2;
    const size = (number) => at[number + 1] - at[number];
    const order = all.map((_, number) => number).sort((a, b) => marks.includes(b) - marks.includes(a) || size(b) - size(a) || a - b);
    const taken = [];
    for (const number of order) {
      const flat = size(number) > all[number].length * LETTER + 4;
      const half = flat ? (all[number].length * LETTER) / 2 : 6;
      if (taken.every((other) => Math.abs(other.x - middle(number)) >= other.half + half))
        taken.push({ number, x: middle(number), half, flat });
    }
    return taken;
  }

  function drawName({ number, x, flat }) {
    let name = model.get("names")[number];
    if (name.length > 18) name = `${name.slice(0, 17)}…`;
    const y = TOP + HEIGHT + (flat ? 15 : 6);
    const place = flat ? { x, y, "text-anchor": "middle" } : { transform: `translate(${x + 4} ${y}) rotate(-90)`, "text-anchor": "end" };
    const text = svg("text", { ...place, "font-size": 11 }, name);
    if (model.get("marks").includes(number)) text.style.fontWeight = "bold";
    return text;
  }

  function drawMark(number, at) {
    const x = at[number + 1];
    return [
      svg("line", { x1: x, x2: x, y1: TOP - 8, y2: TOP + HEIGHT + 6, stroke: "currentColor", "stroke-width": 4 }),
      svg("path", { d: `M${x - 7} ${TOP - 16}h14l-7 10z`, fill: "currentColor" }),
    ];
  }

  function draw() {
    const at = edges(), shown = names(at);
    const upright = Math.max(0, ...shown.map(({ number, flat }) => (flat ? 20 : Math.min(model.get("names")[number].length, 18) * LETTER + 10)));
    const pattern = svg(
      "pattern",
      { id: hatching, width: 8, height: 8, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { width: 8, height: 8, fill: COLORS.frozen }),
      svg("rect", { width: 2, height: 8, fill: "white" }),
    );
    picture.setAttribute("width", width());
    picture.setAttribute("height", TOP + HEIGHT + upright);
    picture.replaceChildren(
      svg("defs", {}, pattern),
      ...runs().flatMap((run) => drawRun(run, at)),
      ...model.get("names").map((_, number) => drawBlock(number, at)),
      ...shown.map(drawName),
      ...model.get("marks").flatMap((number) => drawMark(number, at)),
    );
    root.setAttribute("aria-valuemin", "0");
    root.setAttribute("aria-valuemax", String(model.get("stops").length - 1));
    root.setAttribute("aria-valuenow", String(Math.max(model.get("position"), 0)));
    root.setAttribute("aria-valuetext", model.get("said"));
    if (words.textContent !== model.get("said")) words.textContent = model.get("said");
    note.textContent = model.get("note");
  }

  function move(position) {
    const last = model.get("stops").length - 1;
    position = Math.min(Math.max(position, 0), last);
    if (position === model.get("position")) return;
    model.set("position", position);
    model.save_changes();
  }

  const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
  root.addEventListener("keydown", (event) => {
    const last = model.get("stops").length - 1;
    const now = model.get("position") < 0 ? last + 1 : model.get("position"); // from several places: back to the last one
    if (event.key in steps) move(now + steps[event.key]);
    else if (event.key === "Home") move(0);
    else if (event.key === "End") move(last);
    else return;
    event.preventDefault();
  });

  function drag(event) {
    const x = event.clientX - picture.getBoundingClientRect().left;
    const at = edges();
    const away = model.get("stops").map((stop) => Math.abs(at[stop + 1] - x));
    move(away.indexOf(Math.min(...away)));
  }
  root.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    root.setPointerCapture(event.pointerId);
    drag(event);
  });
  root.addEventListener("pointermove", (event) => root.hasPointerCapture(event.pointerId) && drag(event));

  // several traits change at once: draw when all of them are there
  let waiting = false;
  const later = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; draw(); });
  };
  model.on("change", later);
  const resized = new ResizeObserver(later);
  resized.observe(el);
  draw();
  return () => {
    model.off("change", later);
    resized.disconnect();
  };
}

export default { render };
