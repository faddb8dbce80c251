// Puts the chosen theme on <html> before anything is painted. The page itself
// (src/app/theme.ts) keeps it up to date afterwards.
;(function () {
  var choice = null
  try {
    choice = localStorage.getItem('crewbeat.theme')
  } catch {
    // Storage is blocked: follow the system.
  }
  var dark = choice === 'dark' || (choice !== 'light' && matchMedia('(prefers-color-scheme: dark)').matches)
  document.documentElement.dataset.theme = dark ? 'dark' : 'light'
})()
