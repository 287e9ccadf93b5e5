"""The generator's own HTTP client: runs only in the Locust child process, on plain sockets and one epoll."""
