// Figures. Those in view are drawn first, the others when the page is idle; each again when what it
// shows has changed. One in a closed part of the page waits until that is opened.
const phone = matchMedia("(max-width: 600px)");
const stale = new Set();
const visible = new Set();
const CONFIG = {
  // Plotly's "share" button would upload the figure.
  modeBarButtonsToRemove: ["sendChartToCloud", "autoScale2d", "lasso2d"], plotlyServerURL: "", responsive: true, displaylogo: false,
};

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    ["paper", "panel", "ink", "soft", "line", "mark", "accent"].map((name) => [name, style.getPropertyValue("--" + name).trim()]),
  );
}

function themed(layout, palette, height) {
  const { panel, ink, soft, line } = palette;
  const axis = { gridcolor: line, linecolor: line, tickcolor: line, color: ink };
  const size = phone.matches || height < 320 ? 11 : 13;
  const out = {
    ...layout,
    showlegend: layout.meta?.overview === true,
    font: { family: "system-ui, sans-serif", size, color: ink },
    hoverlabel: { bgcolor: panel, bordercolor: line, font: { color: ink, size: 12 }, align: "left", namelength: -1 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink },
    dragmode: phone.matches ? false : layout.hovermode === "closest" ? "select" : "zoom",
    uirevision: layout.xaxis?.title?.text + "|" + layout.yaxis?.title?.text,
  };
  for (const name of ["xaxis", "yaxis"]) out[name] = { ...layout[name], ...axis };
  return out;
}

// What hovering over a trial tells; plotly reads markup in it, so every text is escaped.
function hover(trial) {
  const index = place.get(trial);
  const { params, standing, membership } = DATA.details;
  const metrics = Object.keys(DATA.titles).filter((name) => !/^(task|probe)\./.test(name) && !(name in params) && value(name, trial) !== null);
  const [before, after] = DATA.tasks.ends;
  const tasks = (DATA.gain?.tasks ?? []).filter((task) => value(`task.${task}.${after}`, trial) !== null);
  const lines = [
    `${label(trial)} (${standing[index]})`,
    ...(membership[index] === null ? [] : [`on the front: ${membership[index]}`]),
    ...Object.entries(params).filter(([, column]) => column[index] !== null).map(([name, column]) => `${name} = ${column[index]}`),
    ...metrics.map((name) => `${name}: ${measuredText(name, trial)}`),
    ...tasks.map((task) => `${task}: ${shortNumber(value(`task.${task}.${before}`, trial), 3)} → ${measuredText(`task.${task}.${after}`, trial)}`),
  ];
  return lines.map(escaped).join("<br>");
}

function escaped(text) {
  return text.replace(/[&<>$]/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

// plotly.js is in the page in a compressed form.
async function unpackPlotly() {
  const packed = document.getElementById("plotly").textContent;
  const bytes = Uint8Array.from(atob(packed), (each) => each.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(element("script", { text: await new Response(stream).text() }));
}

function overview(id, palette) {
  const { data: plain, layout } = DATA.figures[id];
  const halo = Array(4).fill(`0 0 2px ${palette.paper}`).join(", ");
  for (const trace of plain) if (trace.hoverinfo === "text") trace.hovertext ??= trace.customdata.map(hover);
  const data = plain.map(tonedTrace).map((trace) => (trace.meta?.lines && trace.meta.overlay ? { ...trace, opacity: 0.35 } : trace));
  const traces = data.map((trace) => {
    const shown = isCloud(trace) ? hidden(trace) : trace;
    const textfont = { ...trace.textfont, color: palette.ink, shadow: halo };
    return { ...shown, textfont, unselected: { marker: { opacity: trace.marker?.opacity ?? 1 } } };
  });
  if (printing) traces.push(...data.filter(isMarked).flatMap((trace) => printedMarks(trace, palette)));
  return { data: traces, layout: annotated(toned(layout), palette), shown: data };
}

// What is painted over a figure on the screen, as traces.
function printedMarks(trace, palette) {
  const places = placesOf(trace);
  const common = { hoverinfo: "skip", showlegend: false };
  const along = (trials, axis) => trials.flatMap((trial) => [...(places.get(trial) ?? []).map((index) => trace[axis][index]), null]);
  const of = (trials) => ({ ...common, x: along(trials, "x"), y: along(trials, "y") });
  if (trace.meta?.lines) return [...looks()].map(([trial, line]) => ({ ...of([trial]), mode: "lines", line }));
  const marker = { symbol: "circle-open", size: (trace.marker?.size ?? 8) + 6, color: palette.mark };
  return [{ ...of([...selected]), mode: "markers", marker }];
}

function annotated(layout, palette) {
  if (!layout.annotations) return layout;
  const font = { color: palette.ink, size: phone.matches ? 10 : 12 };
  return { ...layout, annotations: layout.annotations.map((note) => ({ ...note, font, bgcolor: palette.paper })) };
}

// A line for each trial that has a look of its own; the others together in one quiet line.
function curves({ steps, of, values }, trials, palette) {
  const styled = looks();
  const points = (trial) => {
    const index = place.get(trial);
    return of[index] === null ? null : [steps[of[index]], values[index]];
  };
  const quiet = { x: [], y: [] };
  for (const trial of trials.filter((each) => !styled.has(each))) {
    const [x, y] = points(trial) ?? [[], []];
    quiet.x.push(...x, null);
    quiet.y.push(...y, null);
  }
  const lines = trials.filter((trial) => styled.has(trial) && points(trial)).map((trial) => {
    const [x, y] = points(trial);
    const mode = x.length < 3 ? "lines+markers" : "lines";
    return { x, y, mode, name: "#" + trial, meta: { trial }, line: { ...styled.get(trial), width: 2 } };
  });
  return [{ ...quiet, mode: "lines", hoverinfo: "skip", opacity: 0.5, line: { color: palette.soft, width: 1 } }, ...lines];
}

// By task, one stroke a trial from before fine-tuning (open) to after (full).
function strokes(trials) {
  const { tasks, names } = DATA.gain;
  const [before, after] = DATA.tasks.ends;
  return trials.filter((trial) => looks().has(trial)).map((trial) => {
    const look = looks().get(trial);
    const of = (task, key) => value(`task.${task}.${key}`, trial);
    const errors = tasks.flatMap((task) => [null, of(task, after + "_sem"), null]);
    return {
      x: names.flatMap((name) => [name, name, null]),
      y: tasks.flatMap((task) => [of(task, before), of(task, after), null]),
      error_y: { array: errors, color: look.color, thickness: 1.2, width: 0 },
      mode: "lines+markers", name: "#" + trial, meta: { trial }, offsetgroup: String(trial),
      line: { ...look, width: 2 },
      marker: { color: look.color, size: 8, symbol: tasks.flatMap(() => ["circle-open", "circle", "circle"]) },
      hovertemplate: `#${trial}<br>%{x}: %{y:.3f}<extra></extra>`,
    };
  });
}

// Layers are counted: no ticks between them.
function curveLayout(number) {
  const layout = DATA.layouts["curve-" + number];
  if (!DATA.curves[number].name.endsWith("_by_layer")) return layout;
  const layers = Math.max(...DATA.curves[number].steps.map((steps) => steps.length));
  return { ...layout, xaxis: { ...layout.xaxis, dtick: Math.ceil(layers / 12) } };
}

function content(id, trials, palette) {
  const [kind, number] = id.split("-");
  if (kind === "curve") return { data: curves(DATA.curves[number], trials, palette), layout: curveLayout(number) };
  if (id === "gain-by-task") return { data: [...DATA.gain.data.map(tonedTrace), ...strokes(trials)], layout: toned(DATA.gain.layout) };
  return overview(id, palette);
}

function draw(box) {
  const palette = colours();
  const { data, layout, shown } = content(box.id, [...selected], palette);
  const config = { ...CONFIG, displayModeBar: phone.matches || box.clientHeight < 320 ? false : "hover" };
  const first = !box.classList.contains("js-plotly-plot");
  box.shown = shown;
  Plotly.react(box, data, themed(layout, palette, box.clientHeight), config);
  if (first) listen(box);
  paint(box);
}

function listen(box) {
  box.on("plotly_afterplot", () => paint(box));
  box.on("plotly_click", ({ points }) => {
    const trial = points[0].customdata ?? points[0].data.meta?.trial;
    if (Number.isInteger(trial)) toggle(trial);
  });
  box.on("plotly_selected", (event) => {
    if (!event?.range) return;
    const trials = boxed(box, event.range);
    Plotly.relayout(box, { selections: [] });
    if (trials.length) select(trials);
  });
}

// Figures that wait to be drawn, one a frame, so that the page answers in between. Until plotly is
// unpacked none is drawn.
let drawing = true;
function refresh(ids) {
  ids.forEach((id) => stale.add(id));
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(drawNext);
}

// A small study's at once, so that a picture of the page taken as it has loaded is complete.
function startDrawing() {
  if (DATA.trials.length <= MANY) drawRest();
  drawing = false;
  refresh([]);
}

// Whether it is in no closed part of the page.
function isOpen(id) {
  return document.getElementById(id).closest("details:not([open])") === null;
}

// A figure that cannot be drawn stays empty; the others are not held up by it.
function drawn(id) {
  try {
    draw(document.getElementById(id));
  } catch (error) {
    console.error(id, error);
  }
}

function drawNext() {
  const inView = [...visible].find((id) => stale.has(id) && isOpen(id));
  const next = inView ?? [...stale].find(isOpen);
  drawing = next !== undefined;
  if (!drawing) return;
  stale.delete(next);
  drawn(next);
  if (inView === undefined) whenIdle(drawNext);
  else setTimeout(drawNext);
}

// Safari has no requestIdleCallback.
function whenIdle(work) {
  if (window.requestIdleCallback) requestIdleCallback(work, { timeout: 200 });
  else setTimeout(work, 50);
}

const boxes = [...document.querySelectorAll("main .figure")];
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) visible[isIntersecting ? "add" : "delete"](target.id);
  refresh([]);
}, { rootMargin: "150px" });

function drawRest() {
  if (!window.Plotly) return;
  for (const id of [...stale].filter(isOpen)) {
    stale.delete(id);
    drawn(id);
  }
}

// Closed parts of the page are opened on paper, and closed after it.
const folds = [...document.querySelectorAll("main details")];
let closed = [];

// Before and after the page is put on paper.
function onPaper(on) {
  printing = on;
  if (on) closed = folds.filter((fold) => !fold.open);
  closed.forEach((fold) => { fold.open = on; });
  boxes.forEach((box) => stale.add(box.id));
  if (on) drawRest();
  else refresh([]);
}

// A selection is painted over figures of all trials; figures of the selected ones are drawn again.
function drawSelection() {
  const single = boxes.filter((box) => /^(curve-|gain-by-task)/.test(box.id));
  for (const box of boxes) if (box.shown && visible.has(box.id)) paint(box, false);
  for (const box of boxes) if (box.shown && !visible.has(box.id)) stale.add(box.id);
  refresh(single.map((box) => box.id));
}

function drawAll() {
  refresh(boxes.map((box) => box.id));
}

function changeAxes() {
  const names = { x: document.getElementById("axis-x").value, y: document.getElementById("axis-y").value };
  const { data, layout } = DATA.figures.front;
  const planned = names.x === DATA.axes[0] && names.y === DATA.axes[1];
  for (const trace of data) {
    for (const [axis, name] of Object.entries(names)) {
      trace[axis] = trace.customdata.map((trial) => value(name, trial));
      const error = trace["error_" + axis];
      if (error) error.array = trace.customdata.map((trial) => value(name + "_sem", trial));
      layout[axis + "axis"] = { ...layout[axis + "axis"], title: { ...layout[axis + "axis"].title, text: DATA.titles[name] }, type: DATA.logs.includes(name) ? "log" : "linear" };
    }
    if (trace.line) trace.mode = [planned ? "lines" : "", "markers", /text/.test(trace.mode) ? "text" : ""].filter(Boolean).join("+");
  }
  refresh(["front"]);
}
