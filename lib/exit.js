'use strict'

/** How long the end of the process may wait for releases. */
const patienceMillis = 15_000

/** Calls that the end of the process must cancel or wait for: `{ cancel, atExit, promise }`. */
const running = new Set()

/** Leases that end with the process. */
const leases = new Set()

/** A lease's method: starts a release that nobody awaits and gives its cancel token, or nothing when none is due. */
const begin = Symbol('begin release')

let hooked = false

/** Releases the lease when the process ends by itself, by `process.exit()` or by an uncaught error. */
function releaseAtExit(lease) {
  leases.add(lease)
  hook()
}

/** Undoes or finishes a call that is under way when the process ends. */
function watch(entry) {
  running.add(entry)
  hook()
}

/** One hook, and none before there is something to do. */
function hook() {
  if (hooked) return
  hooked = true
  process.on('exit', onExit)
}

function forget(lease) {
  leases.delete(lease)
}

// Promises are not delivered any more, but the engine's threads still run: start every release, then block on them.
function onExit() {
  const deadline = Date.now() + patienceMillis
  const waiting = []
  for (const { cancel, atExit } of running) {
    if (atExit === 'undo') cancel.cancel()
    waiting.push(cancel)
  }
  for (const lease of leases) {
    try {
      const cancel = lease[begin]()
      if (cancel) waiting.push(cancel)
    } catch {
      // the next lease must still be released; this one's claim stays for `crabbox-vast stop`
    }
  }
  for (const cancel of waiting) cancel.wait(Math.max(0, deadline - Date.now()))
}

/** What the process would leave behind. */
const held = () => [...leases]

module.exports = { releaseAtExit, watch, forget, held, running, begin, patienceMillis }
