const text = (value) => document.createTextNode(String(value));
const cell = (row, value, tag = 'td') => row.appendChild(document.createElement(tag)).appendChild(text(value));
const slider = document.getElementById('threshold'), line = document.querySelector('#scores line');
const sizes = scan.bins.map((counts) => counts.reduce((a, b) => a + b, 0));
const total = sizes.reduce((a, b) => a + b, 0);
function move() {
  const from = Number(slider.value), at = from / scan.nBins;
  const lost = scan.bins.map((counts) => counts.slice(from).reduce((a, b) => a + b, 0));
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
slider.addEventListener('input', move);
move();

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
  document.querySelector('#examples tbody').replaceChildren(...rows.map((values) => {
    const row = document.createElement('tr');
    values.forEach((value) => cell(row, value));
    return row;
  }));
}
fill();
document.getElementById('download').addEventListener('click', () => {
  const quoted = (value) => /[",\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value);
  const lines = [scan.columns, ...rows].map((values) => values.map(quoted).join(','));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([lines.join('\n') + '\n'], { type: 'text/csv' }));
  link.download = 'difficult.csv';
  link.click();
  URL.revokeObjectURL(link.href);
});
