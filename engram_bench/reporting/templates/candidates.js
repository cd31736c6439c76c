"use strict";
// The filter of the cases: right by one candidate, wrong by another. Without it the table shows every listed case.
(() => {
  const element = (id) => document.getElementById(id);
  const rows = [...document.querySelectorAll("#rows > tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const select = () => {
    const right = element("right").value, wrong = element("wrong").value;
    const wanted = element("text").value.toLowerCase().trim();
    let shown = 0;
    rows.forEach((row, index) => {
      const { marks } = row.dataset;
      const fits = (!right || marks[right] === "1") && (!wrong || marks[wrong] === "0") && (!wanted || texts[index].includes(wanted));
      row.hidden = !fits;
      shown += fits;
    });
    element("status").textContent = shown ? `${shown.toLocaleString("en")} of ${rows.length.toLocaleString("en")} cases` : "No case fits these filters";
  };
  const form = element("filter");
  form.addEventListener("input", select);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  select();
})();
