'use strict'

const { writeSync } = require('node:fs')
const { held, patienceMillis, running } = require('./exit.js')
const { wrong } = require('./settings.js')

const defaults = ['SIGINT', 'SIGTERM', 'SIGHUP']

/**
 * Releases what this process holds when a signal ends it, and then lets the signal end it. A second signal ends it
 * at once and names what is left. Gives a function that takes the handlers away.
 */
function installSignalHandlers({ signals = defaults } = {}) {
  if (!Array.isArray(signals)) throw wrong('signals', 'an array of signal names', signals)
  let ending = false
  const onSignal = async (signal) => {
    if (ending) return end(signal)
    ending = true
    const patience = new Promise((resolve) => setTimeout(resolve, patienceMillis))
    await Promise.race([releaseAll(), patience])
    end(signal)
  }
  const end = (signal) => {
    uninstall()
    for (const lease of held()) {
      writeSync(2, `crabbox-vast: lease ${lease.id} may still be running; remove it: crabbox-vast stop ${lease.id}\n`)
    }
    process.kill(process.pid, signal)
  }
  const uninstall = () => {
    for (const signal of signals) process.off(signal, onSignal)
  }
  for (const signal of signals) process.on(signal, onSignal)
  return uninstall
}

/** First the calls under way, because an acquire may end with a lease; then the leases. */
async function releaseAll() {
  const calls = [...running]
  for (const { cancel, atExit } of calls) if (atExit === 'undo') cancel.cancel()
  await Promise.allSettled(calls.map(({ promise }) => promise))
  await Promise.allSettled(held().map((lease) => lease.release()))
}

module.exports = { installSignalHandlers }
