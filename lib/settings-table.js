'use strict'

// Generated from the table of settings in crates/engine by scripts/settings.mjs.

module.exports = {
  provider: { kind: 'word', words: ['vast'] },
  apiUrl: { kind: 'url' },
  instanceType: { kind: 'word', words: ['ondemand', 'interruptible'] },
  gpuName: { kind: 'text' },
  gpuCount: { kind: 'count' },
  image: { kind: 'text' },
  templateId: { kind: 'text' },
  runtype: { kind: 'word', words: ['ssh_direct'] },
  diskGB: { kind: 'count' },
  maxDphTotal: { kind: 'number' },
  minReliability: { kind: 'number', max: 1 },
  order: { kind: 'order' },
  user: { kind: 'text' },
  workRoot: { kind: 'text' },
  releaseAction: { kind: 'word', words: ['destroy', 'stop', 'keep'] },
  bootTimeout: { kind: 'duration' },
  sshTimeout: { kind: 'duration' },
  allowRepositoryPolicy: { kind: 'switch' },
  ttl: { kind: 'duration' },
  idleTimeout: { kind: 'duration' },
  profile: { kind: 'text' },
  class: { kind: 'text' },
  envAllow: { kind: 'list' },
  sshUser: { kind: 'text' },
  sshKey: { kind: 'text' },
  defaultWorkRoot: { kind: 'text' },
  extraCaFile: { kind: 'text' },
}
