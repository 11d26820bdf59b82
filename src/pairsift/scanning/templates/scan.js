const text = (value) => document.createTextNode(String(value));
const cell = (row, value, tag = 'td') => row.appendChild(document.createElement(tag)).appendChild(text(value));
const slider = document.getElementById('threshold'), line = document.querySelector('#scores line');
const sizes = scan.bins.map((counts) => counts.reduce((a, b) => a + b, 0));
const total = sizes.reduce((a, b) => a + b, 0);
// Until the slider is moved, the list to drop: it takes a part of each cluster alone, which no threshold does.
function move(moved) {
  const from = Number(slider.value), at = moved ? from / scan.nBins : scan.cutoff;
  const lost = moved ? scan.bins.map((counts) => counts.slice(from).reduce((a, b) => a + b, 0)) : scan.listed;
  const all = lost.reduce((a, b) => a + b, 0);
  document.getElementById('at').value = at.toFixed(3);
  document.getElementById('dropped').textContent =
    `${all.toLocaleString('en')} of ${total.toLocaleString('en')} examples are dropped ` +
    `(${(100 * all / total).toFixed(1)} %).`;
  const body = document.querySelector('#losses tbody');
  body.replaceChildren(...lost.map((n, i) => [n / Math.max(1, sizes[i]), n, i]).filter(([, , i]) => sizes[i])
    .sort((a, b) => b[0] - a[0]).map(([share, n, i]) => {
      const row = document.createElement('tr');
      for (const value of [i, sizes[i].toLocaleString('en'), n.toLocaleString('en')]) cell(row, value);
      const last = row.appendChild(document.createElement('td'));
      const bar = last.appendChild(document.createElement('span'));
      bar.className = 'bar'; bar.style.width = `${5 * share}rem`;
      last.appendChild(text(`${(100 * share).toFixed(1)} %`));
      return row;
    }));
  for (const end of ['x1', 'x2']) line.setAttribute(end, 1000 * at);
}
slider.addEventListener('input', () => move(true));
move(false);

const colour = document.getElementById('colour');
function paint() {
  for (const by of ['score', 'cluster']) document.getElementById(`by-${by}`).hidden = colour.value !== by;
}
colour.addEventListener('change', paint);
paint();
document.getElementById('plane').addEventListener('pointermove', (event) => {
  const plot = event.target.closest('.plot');
  if (!plot) return;
  const box = plot.getBoundingClientRect();
  const far = ([x, y]) => Math.hypot(x * box.width / 1000 + box.left - event.clientX,
    y * box.height / 1000 + box.top - event.clientY);
  const [nearest] = scan.points.reduce(([best, least], point) => {
    const here = far(point);
    return here <= least ? [point, here] : [best, least];
  }, [null, 20]);
  if (nearest) document.getElementById('point').value =
    `row ${nearest[2]}, score ${nearest[3].toFixed(3)}, cluster ${nearest[4]}`;
});

// Rows chosen on the plane; null is all.
let chosen = null;
const entries = [...document.querySelectorAll('li[data-kind]')].map((item) => ({
  item, kind: item.dataset.kind, rows: item.dataset.rows.split(' ').map(Number),
  clusters: item.dataset.clusters.split(' '), words: item.textContent.toLowerCase(),
}));
const [search, kind, cluster] = ['search', 'kind', 'cluster'].map((id) => document.getElementById(id));
sizes.forEach((n, i) => { if (n) { const option = cluster.appendChild(document.createElement('option'));
  option.value = i; option.appendChild(text(`cluster ${i} (${n.toLocaleString('en')})`)); } });
const clusterAt = scan.columns.indexOf('cluster');
const fits = (words, clusters, numbers) => words.includes(search.value.trim().toLowerCase()) &&
  (!cluster.value || clusters.includes(cluster.value)) && (!chosen || numbers.some((row) => chosen.has(row)));
const inTable = (values) => fits(values.join(' ').toLowerCase(), [String(values[clusterAt])], [values[0]]);
function filter() {
  let count = 0;
  for (const entry of entries) {
    entry.item.hidden = !(fits(entry.words, entry.clusters, entry.rows) && (!kind.value || kind.value === entry.kind));
    count += !entry.item.hidden;
  }
  document.getElementById('shown').value = `${count} of ${entries.length} entries` +
    (chosen ? `, ${chosen.size.toLocaleString('en')} rows chosen on the plane` : '');
  fill();
}
function shownRows() {
  if (chosen) return scan.points.filter((p) => chosen.has(p[2]) && (!cluster.value || String(p[4]) === cluster.value))
    .map((p) => p[2]);
  return [...new Set(entries.filter((entry) => !entry.item.hidden).flatMap((entry) => entry.rows))];
}
let rows = scan.rows, sorted = [1, false];
const head = document.querySelector('#examples thead tr');
const heads = scan.columns.map((name, i) => {
  const th = head.appendChild(document.createElement('th'));
  const button = th.appendChild(document.createElement('button'));
  button.type = 'button'; button.appendChild(text(name));
  button.addEventListener('click', () => {
    sorted = [i, sorted[0] === i ? !sorted[1] : typeof rows[0][i] === 'string'];
    const sign = sorted[1] ? 1 : -1;
    rows = [...rows].sort((a, b) => sign * (a[i] < b[i] ? -1 : a[i] > b[i] ? 1 : 0));
    fill();
  });
  return th;
});
function fill() {
  heads.forEach((th, i) => th.setAttribute('aria-sort',
    i === sorted[0] ? (sorted[1] ? 'ascending' : 'descending') : 'none'));
  document.querySelector('#examples tbody').replaceChildren(...rows.filter(inTable).map((values) => {
    const row = document.createElement('tr');
    values.forEach((value) => cell(row, value));
    return row;
  }));
}
function save(name, lines) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([lines.join('\n') + '\n'], { type: 'text/csv' }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
const quoted = (value) => /[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
document.getElementById('download').addEventListener('click', () =>
  save('difficult.csv', [scan.columns, ...rows.filter(inTable)].map((values) => values.map(quoted).join(','))));
document.getElementById('export').addEventListener('click', () => {
  const names = scan.names;
  save('rows.csv', [names ? 'row,id' : 'row', ...shownRows().map((row) => names ? `${row},${quoted(names[row] ?? '')}` : row)]);
});
for (const each of [search, kind, cluster]) each.addEventListener('input', filter);
document.getElementById('filters').addEventListener('submit', (event) => event.preventDefault());
document.getElementById('filters').addEventListener('reset', () => { chosen = null; box?.remove(); setTimeout(filter); });

let from = null, box = null;
const plane = document.getElementById('plane');
plane.addEventListener('pointerdown', (event) => {
  const plot = event.target.closest('.plot');
  if (!plot || event.button) return;
  box?.remove();
  from = [event.clientX, event.clientY, plot];
  event.preventDefault();
});
addEventListener('pointermove', (event) => {
  if (!from) return;
  box ??= document.body.appendChild(document.createElement('div'));
  if (!box.isConnected) document.body.appendChild(box);
  box.className = 'chosen';
  const [x, y] = [Math.min(from[0], event.clientX), Math.min(from[1], event.clientY)];
  Object.assign(box.style, { left: `${x + scrollX}px`, top: `${y + scrollY}px`,
    width: `${Math.abs(event.clientX - from[0])}px`, height: `${Math.abs(event.clientY - from[1])}px` });
});
addEventListener('pointerup', (event) => {
  if (!from) return;
  const area = from[2].getBoundingClientRect();
  const [xs, ys] = [[from[0], event.clientX], [from[1], event.clientY]].map((ends) => ends.sort((a, b) => a - b));
  from = null;
  const inside = ([x, y]) => { const at = [x * area.width / 1000 + area.left, y * area.height / 1000 + area.top];
    return at[0] >= xs[0] && at[0] <= xs[1] && at[1] >= ys[0] && at[1] <= ys[1]; };
  chosen = xs[1] - xs[0] < 4 ? null : new Set(scan.points.filter(inside).map((point) => point[2]));
  if (!chosen) box?.remove();
  filter();
});
filter();
