#!/usr/bin/env node
'use strict'

// Starts the native binary and becomes invisible: same streams, same exit code, same signal.

const { spawn } = require('node:child_process')
const { constants } = require('node:os')
const { binaryPath } = require('../lib/binary.js')

function main() {
  let path
  try {
    path = binaryPath()
  } catch (error) {
    return fail(`${error.message}\nhint: ${error.hint}`, 1)
  }
  let child
  // before the start: a signal in between would end this process alone and leave the child, and with it a lease, behind
  // a terminal sends Ctrl-C to the child as well: the binary takes the two, moments apart, for one
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT']) process.on(signal, () => child.kill(signal))
  // not spawnSync: it would keep signals from being forwarded
  child = spawn(path, process.argv.slice(2), { stdio: 'inherit' })

  child.on('error', (error) => fail(`cannot start ${path}: ${error.message}`, error.code === 'ENOENT' ? 127 : 126))
  child.on('exit', (code, signal) => {
    if (signal === null) return process.exit(code)
    process.removeAllListeners(signal)
    process.kill(process.pid, signal)
    // a signal that Node ignores (SIGPIPE) does not end this process
    setTimeout(() => process.exit(128 + constants.signals[signal]), 100)
  })
}

function fail(message, code) {
  process.stderr.write(`crabbox-vast: ${message}\n`)
  process.exitCode = code
}

main()
