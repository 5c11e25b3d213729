"use strict";
// One selection of trials for the whole page: the table's boxes set it, the curves follow.
const DATA = JSON.parse(document.getElementById("data").textContent);
const place = new Map(DATA.trials.map((trial, index) => [trial, index]));
const selected = new Set(DATA.selected);
const labels = new Map(DATA.trials.map((trial, index) => [trial, DATA.labels[index]]));
const SVG = "http://www.w3.org/2000/svg";
const phone = matchMedia("(max-width: 600px)");

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    ["paper", "panel", "ink", "soft", "line"].map((name) => [name, style.getPropertyValue("--" + name).trim()]),
  );
}

function themed(layout) {
  const { panel, ink, soft, line } = colours();
  const axis = { gridcolor: line, linecolor: line, tickcolor: line, color: ink };
  const out = {
    ...layout,
    showlegend: layout.meta?.overview === true,
    font: { family: "system-ui, sans-serif", size: phone.matches ? 11 : 13, color: ink },
    hoverlabel: { bgcolor: panel, bordercolor: line, font: { color: ink, size: 12 }, align: "left", namelength: -1 },
  };
  out.modebar = { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink };
  for (const name of ["xaxis", "yaxis"]) out[name] = { ...layout[name], ...axis };
  return out;
}

function chosen(traces) {
  const { ink, paper } = colours();
  const halo = Array(4).fill(`0 0 2px ${paper}`).join(", ");
  return traces
    .filter((trace) => trace.meta?.trial === undefined || selected.has(trace.meta.trial))
    .map((trace) => ({ ...trace, visible: true, textfont: { ...trace.textfont, color: ink, shadow: halo } }));
}

function draw(name) {
  const { data, layout } = DATA.figures[name];
  // Plotly's "share" button would upload the figure.
  const config = {
    modeBarButtonsToRemove: ["sendChartToCloud"],
    plotlyServerURL: "",
    responsive: true, displaylogo: false, displayModeBar: phone.matches ? false : "hover" };
  Plotly.react(document.getElementById(name), chosen(data), themed(layout), config);
}

function drawAll() {
  draw("front");
  drawSelection();
}

// One key for all figures of single trials, instead of a legend in each.
function drawKey(box) {
  const lines = new Map();
  for (const { data } of Object.values(DATA.figures)) {
    for (const { meta, line } of data) if (meta && selected.has(meta.trial)) lines.set(meta.trial, line);
  }
  box.replaceChildren(...[...lines].sort((a, b) => a[0] - b[0]).map(([trial, line]) => keyEntry(trial, line)));
}

function keyEntry(trial, line) {
  const entry = document.createElement("span");
  const svg = document.createElementNS(SVG, "svg");
  const stroke = document.createElementNS(SVG, "line");
  const dash = { dash: "7 4", dot: "2 3", dashdot: "7 3 2 3" }[line.dash] ?? "none";
  const look = { x1: 0, x2: 26, y1: 6, y2: 6, stroke: line.color, "stroke-width": 2.5, "stroke-dasharray": dash };
  for (const [name, value] of Object.entries(look)) stroke.setAttribute(name, value);
  svg.setAttribute("width", 26);
  svg.setAttribute("height", 12);
  svg.append(stroke);
  entry.append(svg, labels.get(trial));
  return entry;
}

function cell(trial, metric) {
  return DATA.metrics[metric]?.[place.get(trial)] ?? null;
}

function changeAxes() {
  const [x, y] = ["axis-x", "axis-y"].map((id) => document.getElementById(id).value);
  const { data, layout } = DATA.figures.front;
  for (const trace of data) {
    for (const [axis, metric] of [["x", x], ["y", y]]) {
      trace[axis] = trace.customdata.map((trial) => cell(trial, metric));
      const error = trace["error_" + axis];
      if (error) error.array = trace.customdata.map((trial) => cell(trial, metric + "_sem"));
    }
    if (trace.mode !== "markers+text") trace.mode = x === DATA.axes[0] && y === DATA.axes[1] && trace.line ? "lines+markers" : "markers";
  }
  layout.xaxis.title.text = DATA.titles[x];
  layout.yaxis.title.text = DATA.titles[y];
  draw("front");
}

function sortBy(header) {
  const table = header.closest("table");
  const column = [...header.parentNode.children].indexOf(header);
  const order = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order === 1 ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => {
    const { value } = row.cells[column].dataset;
    return { row, key: header.classList.contains("number") ? (value === "" ? NaN : Number(value)) : value };
  });
  rows.sort((a, b) => compare(a.key, b.key, order));
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

// Missing values last, whichever way the column is sorted.
function compare(a, b, order) {
  const missing = (key) => Number(key === "" || Number.isNaN(key));
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return order * (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
}

function select(numbers) {
  selected.clear();
  numbers.forEach((number) => selected.add(number));
  for (const box of document.querySelectorAll("input[data-trial]")) box.checked = selected.has(Number(box.dataset.trial));
  drawSelection();
}

function drawSelection() {
  document.querySelectorAll(".key").forEach(drawKey);
  Object.keys(DATA.figures).filter((name) => name !== "front").forEach(draw);
}

for (const header of document.querySelectorAll("th[data-sort] button")) {
  header.addEventListener("click", () => sortBy(header.parentNode));
}
for (const box of document.querySelectorAll("input[data-trial]")) {
  box.addEventListener("change", () => {
    selected[box.checked ? "add" : "delete"](Number(box.dataset.trial));
    drawSelection();
  });
}
document.getElementById("select-default")?.addEventListener("click", () => select(DATA.selected));
document.getElementById("select-all")?.addEventListener("click", () => select(DATA.trials));
document.getElementById("select-none")?.addEventListener("click", () => select([]));
for (const id of ["axis-x", "axis-y"]) document.getElementById(id)?.addEventListener("change", changeAxes);
for (const query of ["(prefers-color-scheme: dark)", "print", "(max-width: 600px)"]) {
  matchMedia(query).addEventListener("change", drawAll);
}
drawAll();
