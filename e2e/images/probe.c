/*
 * /probe: the only program of an image without a shell. It prints what it was asked for as one
 * line of JSON on standard output and then ends or waits.
 *
 *   --env NAME      adds a member of "env": the value, or null if the variable is not set
 *   --environ       adds "environ": all variables, as NAME=value
 *   --file PATH     adds a member of "files": the content, or null if it cannot be read
 *   --mode PATH     adds a member of "modes": owner, group and permission bits "uid:gid:0400"
 *   --cwd           adds "cwd"
 *   --id            adds "id": "uid:gid"
 *   --write PATH    adds a member of "writes": 0, or the errno of opening the file for writing
 *   --sleep         then waits for SIGTERM or SIGINT, and adds a line {"signal":15}
 *   --exit CODE     ends with this code instead of 0
 *   -- …            what follows is for "argv" only
 *
 * "argv" is always there, from the program's own name on. Every byte of a value is one character
 * of its JSON string (so bytes above 0x7f read as Latin-1), which keeps any content exact.
 */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

static void print_bytes(const char *bytes, size_t count) {
  putchar('"');
  for (size_t i = 0; i < count; i++) {
    unsigned char c = (unsigned char)bytes[i];
    if (c == '"' || c == '\\')
      printf("\\%c", c);
    else if (c < 0x20 || c > 0x7e)
      printf("\\u%04x", c);
    else
      putchar(c);
  }
  putchar('"');
}

static void print_text(const char *text) {
  if (text)
    print_bytes(text, strlen(text));
  else
    printf("null");
}

static void print_file(const char *path) {
  int file = open(path, O_RDONLY);
  if (file < 0) {
    printf("null");
    return;
  }
  char *bytes = 0;
  size_t count = 0, room = 0;
  for (;;) {
    if (count == room) {
      room = room ? room * 2 : 65536;
      bytes = realloc(bytes, room);
      if (!bytes) abort();
    }
    ssize_t got = read(file, bytes + count, room - count);
    if (got <= 0) break;
    count += (size_t)got;
  }
  print_bytes(bytes, count);
  free(bytes);
  close(file);
}

static void print_mode(const char *path) {
  struct stat s;
  if (stat(path, &s))
    printf("null");
  else
    printf("\"%u:%u:%04o\"", s.st_uid, s.st_gid, s.st_mode & 07777);
}

static void print_write(const char *path) {
  int file = open(path, O_WRONLY);
  printf("%d", file < 0 ? errno : 0);
  if (file >= 0) close(file);
}

/* Prints ,"name":{"<argument>":<value>,…} for every occurrence of an option. */
static void print_members(int argc, char **argv, const char *option, const char *name,
                          void (*print)(const char *)) {
  int found = 0;
  for (int i = 1; i + 1 < argc && strcmp(argv[i], "--"); i++) {
    if (strcmp(argv[i], option)) continue;
    i++;
    if (found++)
      putchar(',');
    else
      printf(",\"%s\":{", name);
    print_text(argv[i]);
    putchar(':');
    print(argv[i]);
  }
  if (found) putchar('}');
}

static void print_variable(const char *name) { print_text(getenv(name)); }

static const char *option(int argc, char **argv, const char *name) {
  for (int i = 1; i < argc && strcmp(argv[i], "--"); i++)
    if (!strcmp(argv[i], name)) return i + 1 < argc ? argv[i + 1] : "";
  return 0;
}

int main(int argc, char **argv) {
  /* As PID 1 a signal without a handler would be ignored; blocked, it waits for sigwait. */
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  int sleeps = option(argc, argv, "--sleep") != 0;
  if (sleeps) sigprocmask(SIG_BLOCK, &signals, 0);

  printf("{\"argv\":[");
  for (int i = 0; i < argc; i++) {
    if (i) putchar(',');
    print_text(argv[i]);
  }
  putchar(']');
  print_members(argc, argv, "--env", "env", print_variable);
  print_members(argc, argv, "--file", "files", print_file);
  print_members(argc, argv, "--mode", "modes", print_mode);
  print_members(argc, argv, "--write", "writes", print_write);
  if (option(argc, argv, "--environ")) {
    printf(",\"environ\":[");
    for (char **entry = environ; *entry; entry++) {
      if (entry != environ) putchar(',');
      print_text(*entry);
    }
    putchar(']');
  }
  if (option(argc, argv, "--cwd")) {
    char path[4096];
    printf(",\"cwd\":");
    print_text(getcwd(path, sizeof path));
  }
  if (option(argc, argv, "--id")) printf(",\"id\":\"%u:%u\"", getuid(), getgid());
  printf("}\n");
  fflush(stdout);

  if (sleeps) {
    int signal = 0;
    sigwait(&signals, &signal);
    printf("{\"signal\":%d}\n", signal);
    fflush(stdout);
  }
  const char *code = option(argc, argv, "--exit");
  return code ? atoi(code) : 0;
}
