// The keys page: asks before revoking, and forgets a secret when the page is reloaded.

document.addEventListener("click", (event) => {
  const revoke = event.target.closest("[data-revoke]");
  const dialog = revoke && document.getElementById(`revoke-${revoke.dataset.revoke}`);
  if (dialog) {
    event.preventDefault();
    dialog.showModal();
  }
  const close = event.target.closest("dialog [data-close]");
  if (close) {
    event.preventDefault();
    close.closest("dialog").close();
  }
});

// Reloading this page would send the form again and make another key.
const shown = document.querySelector("[data-secret]");
if (shown) history.replaceState(null, "", shown.dataset.secret);
