// A canvas over each figure. Plotly draws axes, lines and labels; what a selection changes, and
// clouds of many points, are painted here, so that a click does not draw a figure again.
const MANY = 300; // Points from which a trace is painted instead of being drawn as SVG.
const SHAPES = {
  circle: (pen, r) => pen.arc(0, 0, r, 0, 7),
  square: (pen, r) => pen.rect(-r, -r, 2 * r, 2 * r),
  "triangle-up": (pen, r) => triangle(pen, r, -1),
  "triangle-down": (pen, r) => triangle(pen, r, 1),
};
const indices = new WeakMap();

function triangle(pen, r, way) {
  pen.moveTo(0, 1.2 * r * way);
  pen.lineTo(-r, -0.8 * r * way);
  pen.lineTo(r, -0.8 * r * way);
  pen.closePath();
}

// On paper everything is drawn by plotly: a canvas would be a picture of the screen's size.
function isCloud(trace) {
  if (printing) return false;
  if (trace.meta?.lines) return placesOf(trace).size > MANY;
  const { symbol = "circle", color } = trace.marker ?? {};
  return trace.customdata?.length > MANY && trace.mode === "markers" && typeof color === "string" && symbol.replace("-open", "") in SHAPES;
}

// Overlays that name or ring points of other traces are not marked again.
function isMarked(trace) {
  return trace.customdata !== undefined && trace.meta?.overlay !== true;
}

// The same trace for plotly to hover over, without its marks.
function hidden(trace) {
  return { ...trace, mode: "none", error_x: undefined, error_y: undefined, hoveron: "points" };
}

// Where each trial is in a trace of many.
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

// A selection changes only what is over the figure, and discs under points of the front.
function paint(box, all = true) {
  const { xaxis, yaxis } = box._fullLayout ?? {};
  if (!xaxis || !box.shown) return;
  const over = pencil(box, "over", xaxis, yaxis);
  const under = all || box.id === "front" ? pencil(box, "under", xaxis, yaxis) : null;
  const at = (trace, index) => position(trace, index, xaxis, yaxis);
  for (const trace of box.shown) {
    if (under && isCloud(trace)) (trace.meta?.lines ? paintThreads : paintCloud)(under, trace, at);
    if (!isMarked(trace)) continue;
    if (trace.meta?.lines) paintLines(over, trace, at);
    else if (box.id === "front") paintHalos(under, trace, at);
    else paintRings(over, trace, at);
  }
}

// A clean canvas under or over what plotly draws, clipped to where there are points.
function pencil(box, layer, xaxis, yaxis) {
  let canvas = box.querySelector("canvas." + layer);
  if (!canvas) {
    canvas = element("canvas", { className: "layer " + layer });
    box.append(canvas);
  }
  const ratio = devicePixelRatio;
  Object.assign(canvas, { width: box.clientWidth * ratio, height: box.clientHeight * ratio });
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  pen.beginPath();
  pen.rect(xaxis._offset - 8, yaxis._offset - 8, xaxis._length + 16, yaxis._length + 16);
  pen.clip();
  return pen;
}

// Pixels of a point; null where it has no place.
function position(trace, index, xaxis, yaxis) {
  const [x, y] = [trace.x[index], trace.y[index]];
  if (x === null || y === null || x === undefined || y === undefined) return null;
  const found = [xaxis._offset + along(xaxis, x), yaxis._offset + along(yaxis, y)];
  return found.every(Number.isFinite) ? found : null;
}

function along(axis, value) {
  return axis.type === "category" ? axis.l2p(axis._categories.indexOf(value)) : axis.d2p(value);
}

function paintCloud(pen, trace, at) {
  const { color, size, opacity = 1, symbol = "circle" } = trace.marker;
  const shape = SHAPES[symbol.replace("-open", "")];
  Object.assign(pen, { fillStyle: color, strokeStyle: color, globalAlpha: opacity, lineWidth: 1 });
  for (let index = 0; index < trace.x.length; index += 1) {
    const point = at(trace, index);
    if (!point) continue;
    for (const axis of ["x", "y"]) paintError(pen, trace, index, axis, at);
    pen.save();
    pen.translate(...point);
    pen.beginPath();
    shape(pen, size / 2);
    if (symbol.endsWith("-open")) pen.stroke();
    else pen.fill();
    pen.restore();
  }
  pen.globalAlpha = 1;
}

function paintError(pen, trace, index, axis, at) {
  const error = trace["error_" + axis]?.array?.[index];
  if (!error) return;
  const ends = [-error, error].map((by) => at({ x: [trace.x[index] + (axis === "x" ? by : 0)], y: [trace.y[index] + (axis === "y" ? by : 0)] }, 0));
  if (!ends.every(Boolean)) return;
  pen.beginPath();
  pen.moveTo(...ends[0]);
  pen.lineTo(...ends[1]);
  pen.stroke();
}

// Where baselines, the knee and probabilities surround points, discs behind them.
function paintHalos(pen, trace, at) {
  Object.assign(pen, { fillStyle: colours().accent, globalAlpha: 0.28 });
  circles(pen, trace, at, 13);
  pen.fill();
  pen.globalAlpha = 1;
}

function paintRings(pen, trace, at) {
  Object.assign(pen, { strokeStyle: colours().mark, lineWidth: selected.size > MANY ? 1 : 2 });
  circles(pen, trace, at, (trace.marker?.size ?? 8) / 2 + 6);
  pen.stroke();
}

function circles(pen, trace, at, radius) {
  const places = placesOf(trace);
  pen.beginPath();
  for (const trial of selected) {
    for (const index of places.get(trial) ?? []) {
      const point = at(trace, index);
      if (!point) continue;
      pen.moveTo(point[0] + radius, point[1]);
      pen.arc(...point, radius, 0, 7);
    }
  }
}

function paintLines(pen, trace, at) {
  const styled = looks();
  const quiet = { color: colours().soft, dash: "solid" };
  const ordered = [...selected].sort((a, b) => styled.has(a) - styled.has(b));
  for (const trial of ordered) {
    const { color, dash } = styled.get(trial) ?? quiet;
    Object.assign(pen, { strokeStyle: color, lineWidth: styled.has(trial) ? 2.2 : 0.8 });
    pen.setLineDash((DASHES[dash] ?? "").split(" ").filter(Boolean).map(Number));
    thread(pen, trace, trial, at);
  }
  pen.setLineDash([]);
}

// All trials, each so faint that only where many run there is colour.
function paintThreads(pen, trace, at) {
  Object.assign(pen, { strokeStyle: trace.line.color, lineWidth: 1, globalAlpha: 0.07 });
  for (const trial of placesOf(trace).keys()) thread(pen, trace, trial, at);
  pen.globalAlpha = 1;
}

function thread(pen, trace, trial, at) {
  pen.beginPath();
  let pending = true;
  for (const index of placesOf(trace).get(trial) ?? []) {
    const point = at(trace, index);
    if (point) pen[pending ? "moveTo" : "lineTo"](...point);
    pending = !point;
  }
  pen.stroke();
}

// The trials in a box that was dragged over the figure.
function boxed(box, range) {
  const { xaxis, yaxis } = box._fullLayout;
  const pixels = (axis, ends) => ends.map((end) => axis._offset + (axis.type === "log" ? axis.d2p(end) : axis.r2p(end))).sort((a, b) => a - b);
  const [left, right] = pixels(xaxis, range.x);
  const [top, bottom] = pixels(yaxis, range.y);
  const found = new Set();
  for (const trace of box.shown.filter((each) => each.customdata)) {
    trace.customdata.forEach((trial, index) => {
      const point = Number.isInteger(trial) && position(trace, index, xaxis, yaxis);
      if (point && point[0] >= left && point[0] <= right && point[1] >= top && point[1] <= bottom) found.add(trial);
    });
  }
  return [...found];
}
