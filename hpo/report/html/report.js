// The bar with the selection, and what starts the page.
const SVG = "http://www.w3.org/2000/svg";

function sample({ color, dash }) {
  const svg = document.createElementNS(SVG, "svg");
  const stroke = document.createElementNS(SVG, "line");
  const look = { x1: 0, x2: 26, y1: 6, y2: 6, stroke: color, "stroke-width": 2.5, "stroke-dasharray": DASHES[dash] ?? "none" };
  for (const [name, text] of Object.entries(look)) stroke.setAttribute(name, text);
  svg.setAttribute("width", 26);
  svg.setAttribute("height", 12);
  svg.append(stroke);
  return svg;
}

// One key for all figures of single trials, instead of a legend in each.
function drawBar() {
  const entries = [...looks()].sort((a, b) => a[0] - b[0]).map(([trial, look]) => {
    const entry = element("button", { className: "entry", title: "open its page", children: [sample(look), label(trial)] });
    entry.dataset.open = trial;
    return entry;
  });
  const rest = selected.size - entries.length;
  if (rest) entries.push(element("span", { text: `and ${rest} more in grey` }));
  document.querySelector("#bar .key").replaceChildren(...entries);
  document.getElementById("count").textContent = `${selected.size} of ${DATA.trials.length} trials`;
}

function reloadLater() {
  const busy = drawing || dialog.open || document.hidden || document.activeElement?.matches("input[type=search], select");
  if (busy) setTimeout(reloadLater, 2000);
  else location.reload();
}

listeners.push(drawBar, markRows, drawSelection);
document.getElementById("select-default").addEventListener("click", () => select(DATA.selected));
document.getElementById("select-all").addEventListener("click", () => select(DATA.trials));
document.getElementById("select-none").addEventListener("click", () => select([]));
for (const id of ["axis-x", "axis-y"]) document.getElementById(id).addEventListener("change", changeAxes);
for (const query of ["(prefers-color-scheme: dark)", "(max-width: 600px)"]) {
  matchMedia(query).addEventListener("change", () => { drawBar(); drawAll(); });
}
for (const fold of folds) fold.addEventListener("toggle", () => refresh([]));
addEventListener("beforeprint", () => onPaper(true));
addEventListener("afterprint", () => onPaper(false));
showRows();
restore();
announce();
drawAll();
boxes.forEach((box) => watcher.observe(box));
unpackPlotly().then(startDrawing, (error) => {
  for (const box of boxes) box.textContent = "This browser cannot draw figures; a newer one can.";
  console.error("plotly", error);
});
if (DATA.refresh_s !== null) setTimeout(reloadLater, 1000 * DATA.refresh_s);
