'use strict'

/** The known name closest to what was written, if one is close. */
function nearest(written, known) {
  const lower = written.toLowerCase()
  const ranked = known.map((name) => ({ name, distance: distance(lower, name.toLowerCase()) }))
  ranked.sort((a, b) => a.distance - b.distance)
  const limit = Math.max(2, Math.ceil(written.length / 3))
  return ranked[0] && ranked[0].distance <= limit ? ranked[0].name : undefined
}

/** Levenshtein distance. */
function distance(a, b) {
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row]
    for (let column = 1; column <= b.length; column += 1) {
      const change = previous[column - 1] + (a[row - 1] === b[column - 1] ? 0 : 1)
      current[column] = Math.min(previous[column] + 1, current[column - 1] + 1, change)
    }
    previous = current
  }
  return previous[b.length]
}

module.exports = { nearest }
