// Before the first paint, so that nothing flashes: the theme that was chosen here, if one was.
try {
  const theme = localStorage.getItem("pagelm-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // Storage is forbidden: the system's theme it is.
}
