// The table of trials: sorting, finding, and only as many rows as can be read at once.
const table = document.getElementById("trial-table");
const rows = [...table.tBodies[0].rows];
const PAGE = 100;
let limit = PAGE;
const checks = new Map(rows.map((row) => [Number(row.querySelector("input").dataset.trial), row]));

function sortBy(header) {
  const column = [...header.parentNode.children].indexOf(header);
  const order = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of header.parentNode.children) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", order === 1 ? "ascending" : "descending");
  const numeric = header.classList.contains("number");
  const keyed = rows.map((row) => {
    const cell = row.cells[column];
    const key = cell.dataset.value ?? cell.textContent;
    return { row, key: numeric ? (key === "" ? NaN : Number(key)) : key };
  });
  keyed.sort((a, b) => compare(a.key, b.key, order));
  rows.splice(0, rows.length, ...keyed.map(({ row }) => row));
  showRows();
}

const collator = new Intl.Collator(undefined, { numeric: true });

// Missing values last, whichever way the column is sorted.
function compare(a, b, order) {
  const missing = (key) => Number(key === "" || Number.isNaN(key));
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return order * (typeof a === "number" ? a - b : collator.compare(a, b));
}

function showRows() {
  const words = document.getElementById("find").value.toLowerCase();
  const only = document.getElementById("only").checked;
  const fits = (row) => (!only || row.classList.contains("selected")) && (!words || row.textContent.toLowerCase().includes(words));
  const found = only || words ? rows.filter(fits) : rows;
  table.tBodies[0].replaceChildren(...found.slice(0, limit));
  const more = document.getElementById("more");
  more.hidden = found.length <= limit;
  more.textContent = `${found.length - limit} more: show all`;
}

function markRows() {
  for (const [trial, row] of checks) {
    const on = selected.has(trial);
    if (row.classList.contains("selected") === on) continue;
    row.classList.toggle("selected", on);
    row.querySelector("input").checked = on;
  }
  if (document.getElementById("only").checked) showRows();
}

for (const header of table.querySelectorAll("th[data-sort] button")) {
  header.addEventListener("click", () => sortBy(header.parentNode));
}
table.addEventListener("change", ({ target }) => {
  if (target.dataset.trial !== undefined) toggle(Number(target.dataset.trial), target.checked);
});
document.getElementById("find").addEventListener("input", showRows);
document.getElementById("only").addEventListener("change", showRows);
document.getElementById("more").addEventListener("click", () => {
  limit = Infinity;
  showRows();
});
