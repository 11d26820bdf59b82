const kind = document.getElementById("kind"), reason = document.getElementById("reason"), search = document.getElementById("search");
const galleries = [...document.querySelectorAll(".gallery")], shown = document.getElementById("shown");
function filter() {
  const wanted = search.value.trim().toLowerCase();
  let count = 0;
  for (const gallery of galleries) {
    let some = 0;
    for (const example of gallery.querySelectorAll("li")) {
      const fits = !reason.value || example.dataset.reasons.includes("|" + reason.value + "|");
      example.hidden = !fits || !example.textContent.toLowerCase().includes(wanted);
      some += example.hidden ? 0 : 1;
    }
    gallery.hidden = some === 0 || ![gallery.id, ""].includes(kind.value);
    count += gallery.hidden ? 0 : some;
  }
  shown.textContent = count + " examples";
}
kind.addEventListener("change", filter);
reason.addEventListener("change", filter);
search.addEventListener("input", filter);
filter();
