// Figures. Each is drawn when it comes into view, and again when what it shows has changed.
const phone = matchMedia("(max-width: 600px)");
const stale = new Set();
const visible = new Set();
const indices = new WeakMap();
const CONFIG = {
  // Plotly's "share" button would upload the figure.
  modeBarButtonsToRemove: ["sendChartToCloud", "autoScale2d"], plotlyServerURL: "", responsive: true, displaylogo: false,
};

function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(
    ["paper", "panel", "ink", "soft", "line", "mark"].map((name) => [name, style.getPropertyValue("--" + name).trim()]),
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
    selectionrevision: announced,
    uirevision: layout.xaxis?.title?.text + "|" + layout.yaxis?.title?.text,
  };
  for (const name of ["xaxis", "yaxis"]) out[name] = { ...layout[name], ...axis };
  return out;
}

// Where each trial stands in a trace of many.
function placesOf(trace) {
  if (!indices.has(trace)) {
    const found = new Map();
    trace.customdata.forEach((trial, index) => {
      if (!found.has(trial)) found.set(trial, []);
      found.get(trial).push(index);
    });
    indices.set(trace, found);
  }
  return indices.get(trace);
}

// Rings around the selected points of a trace, or lines over it.
function marks(trace, palette) {
  const places = placesOf(trace);
  const take = (trials, axis, gap) => trials.flatMap((trial) => (places.get(trial) ?? []).map((index) => trace[axis][index]).concat(gap));
  const common = { hoverinfo: "skip", showlegend: false, xaxis: trace.xaxis, yaxis: trace.yaxis };
  if (!trace.meta?.lines) {
    const trials = [...selected];
    const marker = { symbol: "circle-open", size: 13, color: palette.mark, line: { width: 2 } };
    return [{ ...common, x: take(trials, "x", []), y: take(trials, "y", []), mode: "markers", marker }];
  }
  const styled = looks();
  const rest = [...selected].filter((trial) => !styled.has(trial));
  const line = (trials, look) => ({ ...common, x: take(trials, "x", [null]), y: take(trials, "y", [null]), mode: "lines", line: look });
  return [
    line(rest, { color: palette.soft, width: 1.2 }),
    ...[...styled].map(([trial, look]) => line([trial], { ...look, width: 2.2 })),
  ];
}

function overview(id, palette) {
  const { data, layout } = DATA.figures[id];
  const halo = Array(4).fill(`0 0 2px ${palette.paper}`).join(", ");
  const traces = data.map((trace) => ({ ...trace, textfont: { ...trace.textfont, color: palette.ink, shadow: halo } }));
  const many = data.find((trace) => trace.customdata && trace.mode !== undefined);
  const named = id === "front" ? [...data.filter((trace) => trace.customdata && trace.showlegend !== false && !/open/.test(trace.marker?.symbol) )] : many ? [many] : [];
  return { data: [...traces, ...named.flatMap((trace) => marks(trace, palette))], layout: annotated(layout, palette) };
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

// By task, one stroke a trial from the score before (open) to after (full).
function strokes(trials) {
  const { tasks, names } = DATA.gain;
  return trials.filter((trial) => looks().has(trial)).map((trial) => {
    const look = looks().get(trial);
    const of = (task, key) => value(`task.${task}.${key}`, trial);
    const errors = tasks.flatMap((task) => [null, of(task, "after_sem"), null]);
    return {
      x: names.flatMap((name) => [name, name, null]),
      y: tasks.flatMap((task) => [of(task, "before"), of(task, "after"), null]),
      error_y: { array: errors, color: look.color, thickness: 1.2, width: 0 },
      mode: "lines+markers", name: "#" + trial, meta: { trial }, offsetgroup: String(trial),
      line: { ...look, width: 2 },
      marker: { color: look.color, size: 8, symbol: tasks.flatMap(() => ["circle-open", "circle", "circle"]) },
      hovertemplate: `#${trial}<br>%{x}: %{y:.3f}<extra></extra>`,
    };
  });
}

function content(id, trials, palette) {
  const [kind, number] = id.split("-");
  if (kind === "curve") return { data: curves(DATA.curves[number], trials, palette), layout: DATA.layouts[id] };
  if (id === "gain-by-task") return { data: [...DATA.gain.data, ...strokes(trials)], layout: DATA.gain.layout };
  return overview(id, palette);
}

function draw(box, id = box.id, trials = [...selected]) {
  const palette = colours();
  const { data, layout } = content(id, trials, palette);
  const config = { ...CONFIG, displayModeBar: phone.matches || box.clientHeight < 320 ? false : "hover" };
  const first = !box.classList.contains("js-plotly-plot");
  Plotly.react(box, data, themed(layout, palette, box.clientHeight), config);
  if (first) listen(box);
}

function listen(box) {
  box.on("plotly_click", ({ points }) => {
    const trial = points[0].customdata ?? points[0].data.meta?.trial;
    if (Number.isInteger(trial)) toggle(trial);
  });
  box.on("plotly_selected", (event) => {
    const trials = (event?.points ?? []).map((point) => point.customdata).filter(Number.isInteger);
    if (trials.length) select(trials);
  });
}

function refresh(ids) {
  ids.forEach((id) => stale.add(id));
  for (const id of visible) if (stale.delete(id)) draw(document.getElementById(id));
}

// The next selection is not drawn with the box of the last one.
let announced = 0;
const boxes = [...document.querySelectorAll("main .figure")];
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    visible[isIntersecting ? "add" : "delete"](target.id);
    if (isIntersecting && stale.delete(target.id)) draw(target);
  }
}, { rootMargin: "150px" });

function drawRest() {
  for (const id of [...stale]) if (stale.delete(id)) draw(document.getElementById(id));
}

// What a selection changes: all figures that show trials.
function drawSelection() {
  announced += 1;
  refresh(boxes.map((box) => box.id).filter((id) => !/^(importance|paper)/.test(id)));
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
      layout[axis + "axis"] = { ...layout[axis + "axis"], title: { text: DATA.titles[name] }, type: DATA.logs.includes(name) ? "log" : "linear" };
    }
    if (trace.mode !== "markers+text") trace.mode = planned && trace.line ? "lines+markers" : "markers";
  }
  refresh(["front"]);
}
