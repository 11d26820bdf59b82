const text = (value) => document.createTextNode(String(value));
const cell = (row, value, tag = 'td') => row.appendChild(document.createElement(tag)).appendChild(text(value));
const slider = document.getElementById('threshold');
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
  Plotly.relayout('scores', { 'shapes[0].x0': at, 'shapes[0].x1': at });
}
slider.addEventListener('input', move);
move();

const marker = document.getElementById('plane').data[0].marker, byScore = marker.color;
document.getElementById('colour').addEventListener('change', (event) => {
  const score = event.target.value === 'score';
  const colours = score ? byScore : document.getElementById('plane').data[0].customdata;
  Plotly.restyle('plane', { 'marker.color': [colours], 'marker.showscale': score });
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
